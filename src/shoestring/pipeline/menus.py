"""Menus: what each layer may become on a runtime, with what it costs there and what it does to the outputs."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from shoestring.compress import int8, magnitude, structured_conv
from shoestring.compress.structured_conv import Structured
from shoestring.core import allot
from shoestring.core.blocks import Blocks
from shoestring.core.counts import dense, sparse
from shoestring.core.device import Device
from shoestring.core.layer import Layer
from shoestring.core.pattern import BlockPattern
from shoestring.core.proposal import UNCHANGED, Considered
from shoestring.deploy import runtimes
from shoestring.measure.machine import pinned
from shoestring.pipeline import costs, sparsity, structure
from shoestring.pipeline.borders import ALTERNATE, Borders, edges, priced
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.sensitivity import Loss, Sensitivity, Trial, between
from shoestring.pipeline.stopwatch import takes
from shoestring.pipeline.table import FLOAT, WORTH, LatencyTable, latency_table, part

EIGHT = int8.CARD.name
LOW = 4  # bits of weights, which save bytes and no time: offered where the size is limited
_MOST = 0.995  # of a squared error: the logarithm of nothing left is no number
_TINY = float(np.finfo(float).eps)  # never quite nothing, so that of two harmless options the cheaper one is chosen


@dataclass(frozen=True)
class Menus:
    """`layers`: those with a choice, each with what was considered. `spent`: ms and bytes of all the rest. `borders`:
    ms where a layer in 8 bits meets one that is not."""

    device: Device
    layers: Mapping[str, tuple[Considered, ...]]
    spent: Mapping[str, float]
    borders: Borders = field(default_factory=dict)


def timed(
    original: Original, devices: Sequence[Device], without: Collection[str], report: Callable[[float], object]
) -> list[LatencyTable]:
    """Every option that may be on a menu, in every layer that takes it, on each of `devices`. Ranges are those of
    noise: good for speed. `without`: methods that are left out."""
    noise, names = original.noise(), [layer.name for layer in original.layers]
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    eight = calibrate(original.graph, noise, precisions)
    graphs = {EIGHT: eight.build(), FLOAT: original.graph, ALTERNATE: eight.build(_every_other(precisions))}
    zeros, shaped = {}, {}
    if magnitude.CARD.name not in without and any(device.runtime not in runtimes.STOCK for device in devices):
        zeros = sparsity.variants(original, noise, precisions, costs.LEVELS)
    if structured_conv.CARD.name not in without:
        shaped = structure.variants(original, noise)
    found = []
    for index, device in enumerate(devices):
        stock = device.runtime in runtimes.STOCK
        # What the engine refuses (sums of what comes out of a table) is no option there.
        taken = {option: graph for option, graph in shaped.items() if takes(device.runtime, graph)}
        variants = {**graphs, **taken} if stock else {EIGHT: graphs[EIGHT], **zeros, **taken}
        with pinned(device.threads):
            progress = partial(part, report, index, len(devices))
            found.append(latency_table(variants, names, device, progress=progress))
    return found


def _every_other(layers: Iterable[str]) -> list[str]:
    return list(layers)[::2]


def trials(original: Original, tables: Sequence[LatencyTable], sized: bool) -> dict[str, Trial]:
    """What has to be known of each layer that can be told by itself: what some runtime does with it in less time than
    with 8 bits. `sized`: the file's size is limited."""
    layers = [layer for layer in original.of_kinds(int8.CARD.kinds) if not layer.fixed]
    paths = [layer.name.partition(":")[0] for layer in layers]
    zeros = sparsity.blocks(layers, Blocks(BlockPattern.parse(sparsity.PATTERN), 50))
    shaped = {f"{structured_conv.CARD.name}:{text}": own for text, own in structure.changes(original).items()}
    found = {}
    for layer, path in zip(layers, paths, strict=True):
        if paths.count(path) > 1:  # of a weight that several calls read no one can say what it should be
            continue
        own = zeros[layer.name]
        pattern = own.pattern if own.percent and any(_paying(table, layer) for table in tables) else None
        assert pattern is None or isinstance(pattern, BlockPattern), "as asked"
        kept = (
            settings[layer.name]
            for option, settings in shaped.items()
            if layer.name in settings and any(_faster(table, layer, option) for table in tables)
        )
        found[layer.name] = Trial(pattern, (8, LOW) if sized else (8,), tuple(kept))
    return found


def menus(
    original: Original,
    device: Device,
    table: LatencyTable,
    asked: Mapping[str, Trial],
    losses: Mapping[str, Sensitivity],
) -> Menus:
    """The menu of each layer of `losses` on a device. `asked`: what was tried."""
    layers = {layer.name: layer for layer in original.layers}
    found = {name: _options(layers[name], table, asked[name], own) for name, own in losses.items()}
    others = [layer for layer in original.layers if layer.name not in found]
    quantised = {layer.name for layer in original.of_kinds(int8.CARD.kinds)}
    spent = {
        "latency": table.rest[EIGHT] + sum(table.layers[layer.name][EIGHT] for layer in others),
        "size": sum(dense(layer, weight_bits=8 if layer.name in quantised else 32).bytes for layer in others),
    }
    return Menus(device, found, spent, _borders(original, table))


def _borders(original: Original, table: LatencyTable) -> Borders:
    """From what every other layer in 8 bits takes beyond the times of the layers."""
    if ALTERNATE not in table.totals:
        return {}
    names = list(int8.precisions(original.of_kinds(int8.CARD.kinds)))
    eight = set(_every_other(names))
    sums = table.rest[EIGHT] + sum(own[EIGHT if name in eight else FLOAT] for name, own in table.layers.items())
    return priced(edges(original.graph, names), set(names) - eight, table.totals[ALTERNATE] - sums)


def _options(layer: Layer, table: LatencyTable, asked: Trial, losses: Sensitivity) -> tuple[Considered, ...]:
    times, eight = table.layers[layer.name], losses.bits[8]
    found = []
    if FLOAT in times:
        found.append(Considered(UNCHANGED, times[FLOAT], round(dense(layer).bytes), 0.0))
    for bits, own in losses.bits.items():
        name = EIGHT if bits == 8 else f"{EIGHT}:w{bits}"
        size = round(dense(layer, weight_bits=bits).bytes)
        found.append(Considered(name, times[EIGHT], size, *_harm(own)))
        if asked.pattern is not None and losses.zeros and _paying(table, layer):
            found += _pruned(layer, table, asked.pattern, losses.zeros, own, "" if bits == 8 else f", {name}")
    for setting in asked.shapes:
        assert isinstance(setting, Structured), "as tried"
        option, own = str(setting), losses.shapes[str(setting)]
        if _faster(table, layer, option):
            size = round(structured_conv.counts(layer, setting).nonzeros + 8 * layer.weight[0])
            found.append(Considered(option, times[option], size, *_harm(eight, own)))
    return tuple(found)


def _pruned(
    layer: Layer, table: LatencyTable, pattern: BlockPattern, zeros: Mapping[int, Loss], coded: Loss, behind: str
) -> list[Considered]:
    """Zeros at the shares among which is chosen; what they do comes on top of what so few bits do."""
    cost, found = costs.cost_of(table, layer.name, sparsity.PATTERN), []
    bits = LOW if behind else 8
    for level in allot.LEVELS[1:]:
        own = between(zeros, level)
        kept = layer.weights - int(layer.weights * level / 100)
        size = round(sparse(layer, kept, layer.weights // (pattern.outputs * pattern.inputs), bits).bytes)
        name = f"{magnitude.CARD.name}:{Blocks(pattern, level)}{behind}"
        found.append(Considered(name, cost.at(level / 100), size, *_harm(coded, own)))
    return found


def _paying(table: LatencyTable, layer: Layer) -> bool:
    """Whether some share of zeros that was timed makes the layer faster."""
    return any(_faster(table, layer, sparsity.option(level)) for level in costs.LEVELS)


def _faster(table: LatencyTable, layer: Layer, option: str) -> bool:
    times = table.layers[layer.name]
    return option in times and times[option] <= WORTH * times[EIGHT]


def _harm(*losses: Loss) -> tuple[float, float]:
    """What goes with all of these, and its standard error: of what each leaves of the outputs, the logarithm, so that
    shares that are left multiply. Small losses are themselves; a layer that is all but gone costs more than it could
    lose, for no error is larger than 1."""
    values = [min(loss.value, _MOST) for loss in losses]
    noise = np.hypot.reduce([loss.noise / (1 - value) for loss, value in zip(losses, values, strict=True)])
    return max(_TINY, -float(np.log1p(-np.array(values)).sum())), float(noise)
