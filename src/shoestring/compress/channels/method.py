"""Channel removal as a Method: surgery on a captured network, before zeros and bits are decided."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch_pruning as tp
from torch import fx, nn

from shoestring.compress.channels.choice import going
from shoestring.compress.channels.settings import UNMEASURED, Channels
from shoestring.compress.method import Applied, Card, Setting
from shoestring.core.counts import Counts, dense
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.precision import FLOAT, Precision
from shoestring.graph.capture import captured_shape, reshaped
from shoestring.graph.channels import Group, Place, ends, groups, is_depthwise, width
from shoestring.graph.dependencies import trace
from shoestring.graph.importance import energies, importance
from shoestring.graph.masks import by_path, groups_of
from shoestring.graph.surgery import Removal, unchanged, without

CARD = Card(
    name="channels",
    title="whole channels removed, with all that depends on them",
    paper="Fang et al., DepGraph: Towards Any Structural Pruning, arXiv 2301.12900; by torch-pruning",
    kinds=(CONV, DEPTHWISE, LINEAR),
    trains=True,
    reshapes=True,
)
_OPTIONS = (12.5, 25, 50)


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    """An eighth, a quarter and a half of the channels."""
    del device
    return tuple(Channels(percent) for percent in _OPTIONS) if layer.kind in CARD.kinds else ()


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """A copy of one layer without the setting's share of its outputs, and of its inputs, which layers before it lose:
    those with the smallest norms in its own weight. Layers with groups lose outputs only as depthwise ones do."""
    small = copy.deepcopy(module)
    assert isinstance(small, nn.Conv1d | nn.Conv2d | nn.Linear), "a layer of the card's kinds"
    pruner = tp.function.PrunerBox[tp.ops.module2type(small)]
    if is_depthwise(small) or groups_of(small) == 1:
        pruner.prune_out_channels(small, _smallest(small.weight, 0, own(setting)))
    if groups_of(small) == 1:
        pruner.prune_in_channels(small, _smallest(small.weight, 1, own(setting)))
    return small, FLOAT


def counts(layer: Layer, setting: Setting) -> Counts:
    """As far as one layer tells: outputs and inputs are both without the setting's share, as they are in the middle of
    a network; the first layer keeps its inputs and the last one its outputs. Layers with groups, but for depthwise
    ones, are taken to stay as they are."""
    chosen = own(setting)
    outputs = _left(layer.weight[0], chosen)
    if layer.kind == DEPTHWISE and layer.groups == layer.weight[0]:
        weight, groups = (outputs, *layer.weight[1:]), outputs
    elif layer.groups > 1:
        weight, groups = layer.weight, layer.groups
    else:
        weight, groups = (outputs, _left(layer.weight[1], chosen), *layer.weight[2:]), 1
    small = replace(layer, weight=weight, groups=groups)
    output = (weight[0], *layer.output[1:]) if len(layer.output) != 2 else (*layer.output[:-1], weight[0])
    return dense(replace(small, output=output, macs=layer.macs * small.weights // layer.weights))


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Applied:
    """A copy of `model` (captured) without the channels, its module names as before. A layer without a setting keeps
    its outputs, and so do those whose outputs are the network's. Warns NoEffectWarning when nothing goes. Raises
    BadInput when a layer is not one of the model, and for channels that cannot be followed, with what to write."""
    captured, given = by_path(model, settings, CARD.name)
    chosen = {path: own(setting) for path, setting in given.items()}
    precisions = dict.fromkeys(settings, FLOAT)
    if any(setting.percent for setting in chosen.values()):
        small = _removed(captured, chosen)
        if small is not None:
            return Applied(small, precisions)
    warnings.warn("channels removed no channel", NoEffectWarning, stacklevel=2)
    return Applied(copy.deepcopy(captured), precisions)


def own(setting: Setting) -> Channels:
    if not isinstance(setting, Channels):
        raise BadInput(f"channels: {setting} is not a setting of channels")
    return setting


def _removed(model: fx.GraphModule, chosen: Mapping[str, Channels]) -> fx.GraphModule | None:
    """None when every width stays as it is."""
    shape = captured_shape(model)
    traced = trace(model, shape)
    last = ends(model)
    asked: list[tuple[Group, Channels]] = []
    for group in groups(traced):
        given = [chosen.get(path) for path in group.outputs]
        shares = [setting for setting in given if setting is not None and setting.percent]
        if shares and len(shares) == len(given) and not last.intersection(group.outputs):
            asked.append((group, min(shares, key=lambda setting: setting.percent)))
    if faults := [group for group, _ in asked if group.fault]:
        raise _refusal(faults, chosen, faults[0].fault)
    removals = [removal for removal in _removals(model, asked) if removal[1]]
    if not removals:
        return None
    everything = _merged([removal for _, removal in removals])
    if not unchanged(model, everything, traced.pieces, shape):
        alone = [group for group, removal in removals if not unchanged(model, removal, traced.pieces, shape)]
        raise _refusal(alone or [group for group, _ in removals], chosen, "their removal changes more than them")
    return reshaped(without(model, everything, traced.pieces))


def _removals(
    model: fx.GraphModule, asked: Sequence[tuple[Group, Channels]]
) -> list[tuple[Group, dict[Place, np.ndarray]]]:
    """What goes from where, group by group."""
    found = [(group, setting, cell) for group, setting in asked for cell in group.cells]
    energy = energies(model)
    cells = [cell for _, _, cell in found]
    gone = going(cells, [setting for _, setting, _ in found], [importance(cell, energy) for cell in cells])
    removals: list[tuple[Group, dict[Place, np.ndarray]]] = [(group, {}) for group, _ in asked]
    by_group = {id(group): removal for group, removal in removals}
    for (group, _, cell), goes in zip(found, gone, strict=True):
        if goes.any():
            part = {place: indices[goes].ravel() for place, indices in cell.indices.items()}
            by_group[id(group)].update(_merged([by_group[id(group)], part]))
    return removals


def _merged(removals: Sequence[Removal]) -> dict[Place, np.ndarray]:
    places = dict.fromkeys(place for removal in removals for place in removal)
    return {place: np.unique(np.concatenate([r[place] for r in removals if place in r])) for place in places}


def _refusal(faulty: Sequence[Group], chosen: Mapping[str, Channels], why: str) -> BadInput:
    """`why`: of the first. Each group is named by its first layer in the order of the network."""
    order = list(chosen)
    names = sorted({min(group.outputs, key=order.index) for group in faulty}, key=order.index)
    return BadInput(
        f"channels: the channels of {names[0]} cannot be removed: {why}; write channels:SHARE%:"
        + ":".join(f"{name}=dense" for name in names)
    )


def _left(channels: int, setting: Channels) -> int:
    return width(channels, setting.percent, setting.multiple or UNMEASURED)


def _smallest(weight: torch.Tensor, axis: int, setting: Channels) -> list[int]:
    """The channels along `axis` that go."""
    norm = weight.detach().transpose(0, axis).flatten(1).norm(dim=1)
    removed = len(norm) - _left(len(norm), setting)
    chosen: list[int] = norm.argsort(stable=True)[:removed].tolist()
    return chosen
