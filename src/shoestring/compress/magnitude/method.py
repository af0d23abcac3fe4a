"""Magnitude pruning as a Method: masks are chosen on folded weights, as they are exported. It decides on no bits."""

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import fx, nn

from shoestring.compress.magnitude.selection import allotted, kept, own
from shoestring.compress.magnitude.settings import MILLISECONDS, TAYLOR, UNIFORM, Magnitude
from shoestring.compress.magnitude.training import Gradual, ScoredMask
from shoestring.compress.method import Card, Setting, Weight
from shoestring.core.blocks import DENSE, Blocks
from shoestring.core.cost import Cost
from shoestring.core.counts import Counts, sparse
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.pattern import BlockPattern, NMPattern, Pattern
from shoestring.core.precision import FLOAT, Precision
from shoestring.graph.masks import Mask, by_path, groups_of, layer_at, norms
from shoestring.graph.parametrized import put_first
from shoestring.graph.permute import gathered

CARD = Card(
    name="magnitude",
    title="the smallest blocks of weights set to zero, little by little while the network trains",
    paper="Zhu and Gupta, To prune, or not to prune, arXiv 1710.01878; blocks: Narang et al., Block-Sparse Recurrent "
    "Neural Networks, arXiv 1711.02782; N:M: Zhou et al., arXiv 2102.04010; Taylor scores: Molchanov et al., "
    "arXiv 1906.10771; regrowth: Lin et al., Dynamic Model Pruning with Feedback, arXiv 2006.07253",
    kinds=(CONV, DEPTHWISE, LINEAR),
    after=("channels",),
    conflicts=("ltp", "block_ltp"),
    prunes=True,
)
_OPTIONS = tuple(Blocks(BlockPattern(4, 1), percent) for percent in (50, 70, 80, 90))


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    """Blocks of 4x1, or what the layer's groups can hold of them."""
    del device
    if layer.kind not in CARD.kinds:
        return ()
    pattern = BlockPattern(4, 1).within(layer.weight, layer.groups)
    return tuple(Magnitude(Blocks(pattern, blocks.percent), UNIFORM) for blocks in _OPTIONS)


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """A copy with the layer's own smallest blocks at zero, whatever the others are like."""
    lowered = copy.deepcopy(module)
    assert isinstance(lowered, nn.Conv1d | nn.Conv2d | nn.Linear), "a layer of the card's kinds"
    weight = Weight(lowered.weight.detach().numpy(), groups_of(lowered))
    for mask in kept({"": weight}, {"": replace(own(setting), scope=UNIFORM)}, {}).values():
        with torch.no_grad():
            lowered.weight.masked_fill_(torch.from_numpy(~mask), 0)
    return lowered, FLOAT


def counts(layer: Layer, setting: Setting) -> Counts:
    """As if every block were full, and every layer lost the same share where one threshold is set for all."""
    blocks = own(setting).blocks
    pattern, number, block = blocks.pattern, 0, 1
    if isinstance(pattern, NMPattern):
        number = layer.weights
    elif blocks.percent:
        rows = layer.groups * -(-(layer.weight[0] // layer.groups) // pattern.outputs)
        number = rows * -(-layer.weight[1] // pattern.inputs) * math.prod(layer.weight[2:])
        block = pattern.outputs * pattern.inputs
    removed = int(blocks.percent * layer.weights / 100 // block) * block
    return sparse(layer, layer.weights - removed, number)


def priced(settings: Mapping[str, Setting]) -> dict[str, BlockPattern]:
    """The layers that share a budget of milliseconds."""
    chosen = {name: own(setting) for name, setting in settings.items()}
    return {
        name: setting.blocks.pattern
        for name, setting in chosen.items()
        if setting.scope == MILLISECONDS and isinstance(setting.blocks.pattern, BlockPattern)
    }


def keep(
    weights: Mapping[str, Weight], settings: Mapping[str, Setting], costs: Mapping[str, Cost] | None = None
) -> dict[str, np.ndarray]:
    """Layer to what stays of its weight: bool in its shape. `weights`: folded, by layer; those without a setting stay
    whole. Warns NoEffectWarning when nothing that was not zero goes. Raises BadInput for what only training can do."""
    chosen = {name: own(settings[name]) for name in weights if name in settings}
    for setting in chosen.values():
        if setting.score == TAYLOR or setting.permute:
            word = TAYLOR if setting.score == TAYLOR else "permute"
            raise BadInput(f"magnitude: {word} needs a torch model, and {TAYLOR} training; leave it out")
    own_weights = {name: weights[name] for name in chosen}
    found = kept(own_weights, chosen, allotted(own_weights, chosen, costs))
    if not any(weights[name].values[~mask].any() for name, mask in found.items()):
        warnings.warn("magnitude removed no weight", NoEffectWarning, stacklevel=2)
    return found


def shared(setting: Setting) -> Blocks | None:
    """What the layers with this setting lose together; None where each loses as much as it says."""
    given = own(setting)
    return None if given.scope == UNIFORM or not given.blocks.percent else given.blocks


def alone(setting: Setting, percent: float) -> Magnitude:
    """The setting of a layer whose share has been set, whatever the others lose."""
    given = own(setting)
    blocks = replace(given.blocks, percent=percent) if percent else DENSE
    return replace(given, blocks=blocks, scope=UNIFORM)


def pattern(setting: Setting) -> Pattern:
    """Of the zeros."""
    return own(setting).blocks.pattern


def gather(model: fx.GraphModule, settings: Mapping[str, Setting]) -> tuple[fx.GraphModule, dict[str, Setting]] | None:
    """A copy of `model` that computes the same with its channels in an order in which small blocks gather, and what is
    left to do; None where no layer asks for it. Layers have the inventory's names."""
    captured, given = by_path(model, settings, CARD.name)
    chosen = {path: own(setting) for path, setting in given.items() if own(setting).permute}
    left = {name: replace(own(setting), permute=False) for name, setting in settings.items()}
    return (_permuted(captured, chosen), dict(left)) if chosen else None


def feature(setting: Setting) -> str:
    """The entry of the capability contract that says what a runtime does with the zeros."""
    if isinstance(pattern(setting), NMPattern):
        return "N:M zeros"
    return "unstructured zeros" if pattern(setting) == BlockPattern(1, 1) else "block zeros"


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Gradual:
    """A copy of `model` (captured) with masks, all open until training goes on or `freeze` is called. Layers have the
    inventory's names (`conv:2` is the second call of `conv`, and has its weight). Batch norms stay in place; with them
    in mind it is chosen what goes. Raises BadInput when a layer is not a convolution or linear layer of the model."""
    captured, given = by_path(model, settings, CARD.name)
    chosen = {path: own(setting) for path, setting in given.items() if own(setting).blocks.percent}
    if not chosen:
        warnings.warn("magnitude removed no weight", NoEffectWarning, stacklevel=2)
    model = _permuted(captured, chosen)
    behind = norms(model)
    made: dict[str, Mask] = {}
    for path, setting in chosen.items():
        layer = layer_at(model, path)
        keep = torch.ones_like(layer.weight, dtype=torch.bool)
        made[path] = (ScoredMask if setting.score == TAYLOR else Mask)(keep, setting.regrow)
        put_first(layer, made[path])
    return Gradual(
        model,
        dict.fromkeys(settings, FLOAT),
        settings=chosen,
        masks=made,
        norms={path: norm for path, norm in behind.items() if path in chosen},
    )


def _permuted(model: fx.GraphModule, chosen: Mapping[str, Magnitude]) -> fx.GraphModule:
    """A copy, with its channels in an order in which small blocks gather where that is asked for."""
    asked: dict[Blocks, list[str]] = {}
    for path, setting in chosen.items():
        if setting.permute:
            asked.setdefault(setting.blocks, []).append(path)
    model = copy.deepcopy(model)
    for blocks, paths in asked.items():
        if isinstance(blocks.pattern, BlockPattern):
            model, _ = gathered(model, blocks.pattern, blocks.percent, paths)
    return model
