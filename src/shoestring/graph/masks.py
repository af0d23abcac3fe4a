"""Masks: parametrizations that keep a part of a weight and set the rest to exact zeros, whatever is put on top."""

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.core.errors import BadInput
from shoestring.graph.fold import foldable
from shoestring.graph.parametrized import before, make_plain, put_first, transforms

Layer = nn.Conv1d | nn.Conv2d | nn.Linear
S = TypeVar("S")


class Mask(nn.Module):
    """Weight to the same with zeros where `keep` (bool, in its shape) is false. What is kept has its gradient, the rest
    none; with `through` all has, so that what was removed still learns and may come back (arXiv 2006.07253)."""

    keep: Tensor

    def __init__(self, keep: Tensor, through: bool = False):
        super().__init__()
        self.register_buffer("keep", keep)
        self.through = through

    def forward(self, weight: Tensor) -> Tensor:
        kept = torch.where(self.keep, weight, 0.0)
        return weight + (kept - weight).detach() if self.through else kept


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Holds the zeros of layers, in place: module path to what stays, whatever else is put on the weight."""
    for path, keep in masks.items():
        put_first(layer_at(model, path), Mask(keep))


def held(model: nn.Module) -> dict[str, Tensor]:
    """Module path to what stays of its weight, of the layers with a Mask."""
    return {
        path: mask.keep
        for path, module in model.named_modules()
        for mask in transforms(module)
        if isinstance(mask, Mask)
    }


@torch.no_grad()
def cut(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A plain copy of `model` in eval mode in which the layers of `masks` (module path to what stays) have exact zeros,
    and else the weights that are trained, whatever was put on them."""
    model = copy.deepcopy(model).eval()
    for path, keep in masks.items():
        layer = layer_at(model, path)
        found = transforms(layer)
        weight = before(layer, found[0]) if found else layer.weight
        weight = torch.where(keep.to(weight.device), weight, 0.0)
        if found:
            make_plain(layer, weight)
            layer.weight.requires_grad_(True)
        else:
            layer.weight.copy_(weight)
    return model


def layer_at(model: nn.Module, path: str, method: str = "masks", called: str = "") -> Layer:
    """The convolution or linear layer at `path`. Raises BadInput when it is none, in the name of `method`, and with the
    name by which the user `called` it."""
    module = dict(model.named_modules()).get(path)
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        raise BadInput(f"{method}: {(called or path)!r} is not a convolution or linear layer of the model")
    return module


def by_path(model: nn.Module, settings: Mapping[str, S], method: str) -> tuple[fx.GraphModule, dict[str, S]]:
    """`model`, and module path to setting, from layers by the inventory's names: `conv:2`, the second call of `conv`,
    has the setting of the first. Raises BadInput, in the name of `method`, when the model is not captured, and when a
    layer is not a convolution or linear layer of it."""
    if not isinstance(model, fx.GraphModule):
        raise BadInput(
            f"{method}: {type(model).__name__} is not captured; write graph.capture.capture(model, input_shape)"
        )
    found: dict[str, S] = {}
    for name, setting in settings.items():
        path = name.partition(":")[0]
        layer_at(model, path, method, name)
        found.setdefault(path, setting)
    return model, found


def groups_of(layer: Layer) -> int:
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def norms(gm: fx.GraphModule) -> dict[str, _BatchNorm]:
    """Layer to the batch norm that will be folded into it."""
    found = ((node.all_input_nodes[0], node) for node in gm.graph.nodes if foldable(gm, node))
    return {str(layer.target): gm.get_submodule(str(norm.target)) for layer, norm in found}  # type: ignore[misc]


def factors(layer: Layer, norm: _BatchNorm | None) -> Tensor:
    """What folding multiplies each output of `layer` by: [out], 1 without a norm."""
    if norm is None or norm.running_var is None:
        return layer.weight.new_ones(len(layer.weight))
    scale = (norm.running_var + norm.eps).rsqrt()
    return scale if norm.weight is None else scale * norm.weight.detach()
