"""Magnitude pruning as a Method: masks are chosen on folded weights, as they are exported. It decides on no bits."""

import copy
import math
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import fx, nn

from shoestring.compress.magnitude.masks import masks
from shoestring.compress.magnitude.settings import GLOBAL, MOST, UNIFORM, Blocks, Magnitude
from shoestring.compress.method import Applied, Card, Setting, Weight
from shoestring.core.counts import Counts, sparse
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.pattern import BlockPattern
from shoestring.core.precision import FLOAT, Precision
from shoestring.graph.fold import fold

CARD = Card(
    name="magnitude",
    title="the smallest blocks of weights set to zero, without training",
    paper="Han et al., Learning both Weights and Connections for Efficient Neural Networks, arXiv 1506.02626; blocks: "
    "Narang et al., Block-Sparse Recurrent Neural Networks, arXiv 1711.02782",
    kinds=(CONV, DEPTHWISE, LINEAR),
    prunes=True,
)
_OPTIONS = tuple(Blocks(BlockPattern(4, 1), percent) for percent in (50, 70, 80, 90))


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    """Blocks of 4x1, or what the layer's groups can hold of them."""
    del device
    if layer.kind not in CARD.kinds:
        return ()
    pattern = _OPTIONS[0].pattern.within(layer.weight, layer.groups)
    return tuple(Magnitude(Blocks(pattern, blocks.percent), UNIFORM) for blocks in _OPTIONS)


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """A copy with the layer's own smallest blocks at zero, whatever the others are like."""
    lowered, weight = copy.deepcopy(module), _weight(module)
    (mask,) = masks([weight], own(setting).blocks.pattern, own(setting).blocks.percent)
    _clear(lowered, mask)
    return lowered, FLOAT


def counts(layer: Layer, setting: Setting) -> Counts:
    """As if every block were full, and every layer lost the same share where one threshold is set for all."""
    blocks = own(setting).blocks
    pattern, number = blocks.pattern, 0
    if blocks.percent:
        rows = layer.groups * -(-(layer.weight[0] // layer.groups) // pattern.outputs)
        number = rows * -(-layer.weight[1] // pattern.inputs) * math.prod(layer.weight[2:])
    block = pattern.outputs * pattern.inputs
    removed = int(blocks.percent * layer.weights / 100 // block) * block
    return sparse(layer, layer.weights - removed, number)


def keep(weights: Mapping[str, Weight], settings: Mapping[str, Setting]) -> dict[str, np.ndarray]:
    """Layer to what stays of its weight: bool in its shape. `weights`: folded, by layer; those without a setting stay
    whole. Warns NoEffectWarning when nothing that was not zero goes."""
    together: dict[Magnitude, list[str]] = {}
    for name in weights:
        if name in settings and own(settings[name]).blocks.percent:
            together.setdefault(own(settings[name]), []).append(name)
    kept: dict[str, np.ndarray] = {}
    for setting, names in together.items():
        pattern, percent = setting.blocks.pattern, setting.blocks.percent
        for group in [names] if setting.scope == GLOBAL else [[name] for name in names]:
            most = MOST if setting.scope == GLOBAL else percent
            kept.update(zip(group, masks([weights[name] for name in group], pattern, percent, most), strict=True))
    if not any(weights[name].values[~mask].any() for name, mask in kept.items()):
        warnings.warn("magnitude removed no weight", NoEffectWarning, stacklevel=2)
    return kept


def feature(setting: Setting) -> str:
    """The entry of the capability contract that says what a runtime does with the zeros."""
    return "unstructured zeros" if own(setting).blocks.pattern == BlockPattern(1, 1) else "block zeros"


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Applied:
    """A copy of `model` (captured) with zeros. Layers have the inventory's names (`conv:2` is the second call of
    `conv`, and has its weight). Batch norms stay in place; they are folded to choose what goes. Raises BadInput when a
    layer is not a convolution or linear layer of the model."""
    if not isinstance(model, fx.GraphModule):
        raise BadInput(
            f"magnitude: {type(model).__name__} is not captured; write graph.capture.capture(model, input_shape)"
        )
    modules = dict(model.named_modules())
    chosen: dict[str, Setting] = {}
    for name, setting in settings.items():
        path = name.partition(":")[0]
        if not isinstance(modules.get(path), nn.Conv1d | nn.Conv2d | nn.Linear):
            raise BadInput(f"magnitude: {name!r} is not a convolution or linear layer of the model")
        chosen.setdefault(path, setting)
    pruned, folded = copy.deepcopy(model), fold(model)
    for path, mask in keep({path: _weight(folded.get_submodule(path)) for path in chosen}, chosen).items():
        _clear(pruned.get_submodule(path), mask)
    return Applied(pruned, dict.fromkeys(settings, FLOAT))


def own(setting: Setting) -> Magnitude:
    if not isinstance(setting, Magnitude):
        raise BadInput(f"magnitude: {setting} is not a setting of magnitude")
    return setting


def _weight(layer: nn.Module) -> Weight:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear), "`apply` looked"
    return Weight(layer.weight.detach().numpy(), 1 if isinstance(layer, nn.Linear) else layer.groups)


@torch.no_grad()
def _clear(layer: nn.Module, mask: np.ndarray) -> None:
    assert isinstance(layer.weight, torch.Tensor), "`_weight` read it"
    layer.weight.masked_fill_(torch.from_numpy(~mask), 0)
