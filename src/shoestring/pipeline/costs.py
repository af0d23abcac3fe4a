"""What zeros cost: each layer's time in the engine by its share of zeros, as methods that prune by time want it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shoestring.compress import int8
from shoestring.core.cost import Cost
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.core.pattern import BlockPattern
from shoestring.deploy import runtimes
from shoestring.measure.machine import pinned
from shoestring.pipeline import sparsity
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.table import LatencyTable, latency_table

ENGINE = "engine"
LEVELS = (25, 50, 70, 80, 90, 95)  # per cent of the blocks


@dataclass(frozen=True)
class Prices:
    """`layers`: layer to its cost. `dense_ms`: of the whole network in 8 bits without zeros."""

    layers: Mapping[str, Cost]
    dense_ms: float

    @property
    def paths(self) -> dict[str, Cost]:
        """By module: of `conv:2`, the second call of `conv`, the time is added to the first's."""
        found: dict[str, Cost] = {}
        for name, own in self.layers.items():
            path = name.partition(":")[0]
            before = found.get(path)
            ms = own.ms if before is None else tuple(a + b for a, b in zip(own.ms, before.ms, strict=True))
            found[path] = Cost(own.zeros, ms)
        return found

    def predict(self, zeros: Mapping[str, float]) -> float:
        """Milliseconds of the network with these shares of zeros, by module."""
        return self.dense_ms - sum(cost.ms[0] - cost.at(zeros.get(path, 0.0)) for path, cost in self.paths.items())


def costs(
    original: Original,
    patterns: Mapping[str, BlockPattern],
    threads: int = 1,
    progress: Callable[[float], object] | None = None,
) -> Prices:
    """What the layers of `patterns` cost with blocks of their pattern at zero. The network in 8 bits is timed whole at
    each of LEVELS and read off layer by layer, zeros in every layer that is not kept dense by default; cached like any
    latency table. Raises BadInput where the engine does not run, which alone makes time of zeros."""
    if ENGINE not in runtimes.installed():
        raise BadInput("--method: zeros are priced by the engine's time, and it is not here (see shoestring devices)")
    device = here(ENGINE, threads)
    found: dict[str, Cost] = {}
    dense = 0.0
    for pattern in dict.fromkeys(patterns.values()):
        names = [name for name, own in patterns.items() if own == pattern]
        table = _table(original, str(pattern), device, progress)
        found.update((name, cost_of(table, name, str(pattern))) for name in names)
        dense = table.totals[sparsity.DENSE]
    return Prices(found, dense)


def _table(
    original: Original, pattern: str, device: Device, progress: Callable[[float], object] | None
) -> LatencyTable:
    noise = original.noise()
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    variants = {sparsity.DENSE: calibrate(original.graph, noise, precisions).build()}
    variants |= sparsity.variants(original, noise, precisions, LEVELS, pattern)
    with pinned(device.threads):
        return latency_table(variants, [layer.name for layer in original.layers], device, progress=progress)


def cost_of(table: LatencyTable, layer: str, pattern: str) -> Cost:
    times = table.layers[layer]
    levels = [level for level in LEVELS if sparsity.option(level, pattern) in times]
    ms = [times[sparsity.DENSE], *(times[sparsity.option(level, pattern)] for level in levels)]
    return Cost((0.0, *(level / 100 for level in levels)), tuple(ms))
