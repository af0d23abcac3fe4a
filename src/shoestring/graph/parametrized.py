"""Weights under parametrizations: put on, read, and baked into plain modules. Methods compose by stacking them."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

WEIGHT = "weight"


def put_first(module: nn.Module, transform: nn.Module) -> None:
    """Makes `transform` the first thing that happens to the weight of `module`, before what others put there."""
    parametrize.register_parametrization(module, WEIGHT, transform, unsafe=True)
    stack: Any = module.parametrizations[WEIGHT]  # type: ignore[index]  # a list of modules
    if len(stack) > 1:
        last = stack[-1]
        del stack[-1]
        stack.insert(0, last)


def transforms(module: nn.Module) -> tuple[nn.Module, ...]:
    """What happens to the weight of `module`, in order."""
    if not parametrize.is_parametrized(module, WEIGHT):
        return ()
    return tuple(module.parametrizations[WEIGHT])  # type: ignore[index]  # as above


def before(module: nn.Module, transform: nn.Module) -> Tensor:
    """The weight of `module` as it reaches `transform`."""
    stack: Any = module.parametrizations[WEIGHT]  # type: ignore[index]  # as above
    value: Tensor = stack.original
    for step in transforms(module):
        if step is transform:
            return value
        value = step(value)
    raise ValueError(f"{type(transform).__name__} is not put on the weight of this {type(module).__name__}")


def make_plain(module: nn.Module, weight: Tensor) -> None:
    """Takes the parametrizations off `module`, which then has `weight`. Torch's own function would take the weight off
    the module's class, which copies of a parametrized module share."""
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    module.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)


@torch.no_grad()
def plain(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode without parametrizations of weights, its weights as they were computed; they can
    be trained."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if parametrize.is_parametrized(module, WEIGHT):
            make_plain(module, module.weight)  # type: ignore[arg-type]  # a tensor
            module.weight.requires_grad_(True)
    return model
