"""What the loss is made of: the teacher's outputs, the teacher's features, the labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.train.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]

# A teacher's feature that never changes must not divide by zero.
_LEAST_VARIANCE = 1e-6


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the soft maxima at temperature T over axis 1, mean over all else. Outputs
    [n, classes, ...]; T^2 keeps the gradient's size (Hinton, Vinyals, Dean 2015, section 2)."""
    target = functional.log_softmax(teacher / temperature, 1)
    predicted = functional.log_softmax(student / temperature, 1)
    return temperature**2 * (target.exp() * (target - predicted)).sum(1).mean()


def hard_loss(student: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of outputs [n, classes] with labels [n], summed over the labelled inputs and divided by n: an input
    without a label (-1) adds nothing, however a batch is split over processes."""
    return functional.cross_entropy(student, labels, ignore_index=-1, reduction="sum") / len(labels)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference in units of the teacher's variance over the batch: 1 is as bad as a constant mean."""
    return functional.mse_loss(student, teacher) / teacher.var(correction=0).clamp_min(_LEAST_VARIANCE)


@contextmanager
def criterion(model: nn.Module, teacher: nn.Module | None, recipe: Recipe) -> Iterator[Loss]:
    """The loss of (inputs, labels): runs the model, and the teacher when it has a say. Raises BadInput as `watch`."""
    if teacher is None or not (recipe.distil or recipe.features):
        yield lambda inputs, labels: hard_loss(model(inputs), labels)
        return
    with watch(model, recipe.features) as ours, watch(teacher, recipe.features) as theirs:

        def loss(inputs: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                target = teacher(inputs)
            outputs = model(inputs)
            total = recipe.distil * soft_loss(outputs, target, recipe.temperature)
            if recipe.distil < 1:
                total = total + (1 - recipe.distil) * hard_loss(outputs, labels)
            if recipe.features:
                parts = [feature_loss(*_pair(name, ours, theirs)) for name in recipe.features]
                total = total + recipe.feature_weight * torch.stack(parts).mean()
            return total

        yield loss


@contextmanager
def watch(model: nn.Module, names: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """A mapping that holds, after each forward pass, the outputs of the named modules. Raises BadInput for a name that
    is no module of the model."""
    modules = {name: module for name, module in model.named_modules() if name}
    seen: dict[str, Tensor] = {}
    for name in names:
        if name not in modules:
            close = get_close_matches(name, modules, 3) or list(modules)[:3]
            raise BadInput(f"features: {name!r} is no module of the model; there are for example {', '.join(close)}")

    handles = [modules[name].register_forward_hook(partial(_keep, seen, name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    seen[name] = output


def _pair(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The two outputs of a module. Raises BadInput when there are none that can be compared."""
    if name not in ours or name not in theirs:
        raise BadInput(f"features: {name!r} is not run as a module; name one of the layers inside it")
    if ours[name].shape != theirs[name].shape:
        shapes = f"{list(ours[name].shape)} in the model, {list(theirs[name].shape)} in the teacher"
        raise BadInput(f"features: {name!r} gives {shapes}; name a module whose outputs have one shape")
    return ours[name], theirs[name]
