"""Training after reconstruction: what layers were fitted to is where training starts, with the zeros held.

Gradual pruning finds its zeros while it trains, and needs many epochs for it. A plan knows how many zeros each layer
gets; reconstruction chooses them and makes up for them in minutes, and what is left to recover is little.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, fx, nn

from shoestring.compress.method import Applied
from shoestring.core.pattern import BlockPattern, Pattern
from shoestring.deploy.grids import Stored, stored
from shoestring.graph.masks import cut, held, hold
from shoestring.graph.settle import batches
from shoestring.graph.unfold import settle_norms, unfold
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.making import Made, finish, make
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import EightBit
from shoestring.pipeline.pruning import Pruned, written
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.processes import join

NAME = "recovery"  # of its folder of checkpoints
_BATCH = 16


class Recovering(Applied):
    """Zeros that the model holds: of a run that was stopped, those of its checkpoint."""

    def zeros(self) -> dict[str, Tensor]:
        return held(self.model)

    def bake(self) -> nn.Module:
        return cut(self.model, self.zeros())


def recover(
    original: Original,
    samples: Samples,
    request: Request,
    asked: Sequence[Asked],
    report: Progress,
    dense: EightBit | None = None,
) -> Made | None:
    """Applies `asked` without training, reconstructs, trains what came of it by the recipe to follow the original, and
    reconstructs the bits of that. None in a process that only helped to train. Raises BadInput."""
    assert request.recipe is not None and original.model is not None, "there is something to train, and how"
    world = join()
    # Of several processes one reconstructs; the others need a model of the shapes that it hands them weights for.
    how = replace(request, recipe=None, reconstruct=request.reconstruct and world.leader)
    made = make(original, samples, how, asked, report, dense)
    assert made is not None and made.pruned is not None, "nothing was trained yet, and something is pruned or reshaped"
    assert made.pruned.original.model is not None, "a torch model was given"
    weights, masks = world.told(_start(made.pruned, made.subject) if world.leader else None)
    model = unfold(made.pruned.original.model, weights)
    settle_norms(model, [torch.from_numpy(batch) for batch in batches(samples.calibration, _BATCH)])
    hold(model, masks)
    applied = Recovering(model)
    place = Place(request.checkpoints / NAME, written(made.settings, made.pruned))
    recipe = replace(request.recipe, frozen=1.0)
    # A run is known by what it came from: what is computed here may differ in a last bit when it goes on.
    if not follow(original, original.model, applied, samples, recipe, place, report):
        return None
    report("exporting", 0.0)
    baked = applied.bake()
    assert isinstance(baked, fx.GraphModule), "it was captured"
    student = remade(made.pruned.original, baked)
    report("exporting", 1.0)
    left = replace(made.pruned, original=student, masks=applied.zeros(), dense=None, patterns={})
    trained = replace(left, epochs=recipe.epochs, recovered=bool(left.masks))
    return finish(original, samples, request, asked[-1], trained, report, made.dense)


def _start(pruned: Pruned, graph: ModelProto) -> tuple[dict[str, tuple[Tensor, Tensor | None]], dict[str, Tensor]]:
    """The weights and biases of the quantised form `graph`, as `unfold` takes them, and what stays of pruned ones."""
    model = pruned.original.model
    assert model is not None, "a torch model was given"
    trainable = {path for path, module in model.named_modules() if _trains(module)}
    found = {name: layer for name, layer in stored(graph).items() if name in trainable and layer.scales is not None}
    weights = {name: _values(layer) for name, layer in found.items()}
    biases = {name: None if layer.bias is None else torch.from_numpy(layer.bias) for name, layer in found.items()}
    groups = {layer.name: layer.groups for layer in pruned.original.layers}
    masks = {
        name: torch.from_numpy(_kept(weights[name].numpy(), pruned.patterns[name], groups[name]))
        for name in weights
        if name in pruned.settings and name in pruned.patterns
    }
    given = {name: (weight.float(), biases[name]) for name, weight in weights.items()}
    return given, {name: keep for name, keep in masks.items() if not keep.all()}


def _trains(module: nn.Module) -> bool:
    """A layer whose weight is no constant, such as that of sums."""
    weight: Any = getattr(module, "weight", None)
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear) and weight.requires_grad


def _values(layer: Stored) -> Tensor:
    assert layer.scales is not None, "it is quantised"
    scales = layer.scales.astype(np.float64).reshape(-1, *[1] * (layer.weight.ndim - 1))
    return torch.from_numpy(layer.weight * scales)


def _kept(weight: np.ndarray, pattern: Pattern, groups: int) -> np.ndarray:
    """What stays: blocks with anything in them, for a code that was rounded to zero may become something again."""
    if not isinstance(pattern, BlockPattern):
        return weight != 0
    return pattern.expand(pattern.norms(weight, groups) > 0, weight.shape, groups)
