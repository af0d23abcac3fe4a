"""The latency table: what every option of every layer costs on this device, in milliseconds.

The whole network is built once per option (every layer that can take it), timed, and profiled layer by layer; the
profile, which slows a runtime down, is scaled to the unprofiled total. So fusion and reorders are in the figures. What
belongs to no layer is the table's `rest`. Cached under the device's fingerprint and the graphs' content.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from onnx import ModelProto

from shoestring.core import cache, schema
from shoestring.core.device import Device
from shoestring.deploy import runtimes
from shoestring.measure.timing import Schedule, interleave

FLOAT = "fp32"
WORTH = 0.97  # a layer that takes more than this of another form's time is not called faster
_PROFILED_RUNS = 30


@dataclass(frozen=True)
class LatencyTable:
    """`totals`: option to ms of the whole network (FLOAT on the base runtime where the device's has no floats).
    `layers`: layer to option to ms; layers that the runtime fused away cost 0. `rest`: option to ms of what belongs to
    no layer (reorders, quantising the input)."""

    device: str
    totals: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    rest: Mapping[str, float]

    def predict(self, picks: Mapping[str, str]) -> float:
        """Milliseconds of the network whose layers take these options (FLOAT where none is named)."""
        options = {layer: picks.get(layer, FLOAT) for layer in self.layers}
        rest = max((self.rest[option] for option in set(options.values())), default=0.0)
        return rest + sum(self.layers[layer][option] for layer, option in options.items())


def latency_table(
    variants: Mapping[str, ModelProto],
    layers: Iterable[str],
    device: Device,
    seconds: float = 4.0,
    progress: Callable[[float], object] | None = None,
) -> LatencyTable:
    """`variants`: option to the network with that option in every layer that takes it; FLOAT is the original."""
    names = list(layers)
    key = _key(variants, names, device)
    with contextlib.suppress(ValueError):  # absent, or damaged
        return schema.read(cache.load("tables", key), LatencyTable, "table")
    table = _measure(variants, names, device, seconds, progress)
    cache.store("tables", key, asdict(table))
    return table


def attribute(profile: Mapping[str, float], layers: Iterable[str], model: ModelProto) -> tuple[dict[str, float], float]:
    """A runtime's profile of `model` by node as milliseconds by layer, and the rest. A node belongs to the longest
    layer name that begins its own: runtimes append what they fused (`stem.0/clip_nchwc`, `head.0/WithoutBiases`)."""
    by_length = sorted(layers, key=len, reverse=True)
    times, rest = dict.fromkeys(by_length, 0.0), 0.0
    outputs = {value.name for value in model.graph.output}
    # OpenVINO calls the node that writes an output of the graph after that output.
    writers = {name: node.name for node in model.graph.node for name in node.output if name in outputs}
    for node, ms in profile.items():
        called = writers.get(node, node)
        owner = next((name for name in by_length if begins(called, name)), None)
        if owner is None:
            rest += ms
        else:
            times[owner] += ms
    return times, rest


def begins(node: str, layer: str) -> bool:
    """Whether a runtime's name of a node is a layer's with something appended."""
    return node.startswith(layer) and not re.match(r"[A-Za-z0-9.]", node[len(layer) :])


def _measure(
    variants: Mapping[str, ModelProto],
    names: list[str],
    device: Device,
    seconds: float,
    progress: Callable[[float], object] | None,
) -> LatencyTable:
    graphs = {option: model.SerializeToString() for option, model in variants.items()}
    used = {o: runtimes.get(runtimes.for_floats(device.runtime) if o == FLOAT else device.runtime) for o in graphs}
    sessions = {option: used[option].open(graph, threads=device.threads) for option, graph in graphs.items()}
    x = np.zeros(next(iter(sessions.values())).inputs[0].shape, np.float32)
    schedule = Schedule(seconds=seconds, threads=device.threads)
    timings = interleave({option: partial(session, x) for option, session in sessions.items()}, schedule, progress)
    totals = {option: timings.measurement(option).value for option in graphs}
    layers: dict[str, dict[str, float]] = {name: {} for name in names}
    rest: dict[str, float] = {}
    for option, graph in graphs.items():
        profiled = used[option].open(graph, threads=device.threads, profile=True).profile(x, runs=_PROFILED_RUNS)
        times, other = attribute(profiled, names, variants[option])
        scale = totals[option] / max(sum(times.values()) + other, 1e-9)
        rest[option] = other * scale
        for name, ms in times.items():
            layers[name][option] = ms * scale
    return LatencyTable(device.fingerprint, totals, layers, rest)


def _key(variants: Mapping[str, ModelProto], names: list[str], device: Device) -> str:
    told = hashlib.sha256(repr((device.fingerprint, names, sorted(variants))).encode())
    for option in sorted(variants):
        told.update(hashlib.sha256(variants[option].SerializeToString()).digest())
    return told.hexdigest()[:32]
