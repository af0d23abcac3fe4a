"""The latency table: what every option of every layer costs on this device, in milliseconds.

The whole network is built once per option (every layer that can take it), timed, and profiled layer by layer; the
profile, which slows a runtime down, is scaled to the unprofiled total. So fusion and reorders are in the figures. What
belongs to no layer is the table's `rest`.

Each option is cached by itself as soon as it is measured, under the device's fingerprint and the graphs' content. So a
run that is killed goes on where it was, and further options cost their own time only. Options are timed in turns, a few
together with one that all have in common, the anchor, and are stored as multiples of its time in the same turns: so
those of different days compare. Processes that measure wait for each other.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from onnx import ModelProto

from shoestring.core import cache, schema
from shoestring.core.device import Device
from shoestring.deploy import runtimes
from shoestring.measure.timing import Schedule, interleave

FLOAT = "fp32"
WORTH = 0.97  # a layer that takes more than this of another form's time is not called faster
_PROFILED_RUNS = 30
_TURNS = 4  # options that are timed with the anchor: they share its time, and a kill costs no more than theirs


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
    anchor = next((option for option in variants if _runtime(option, device) == device.runtime), FLOAT)
    keys = _keys(variants, anchor, names, device)
    entries = _stored(keys, names)
    if len(entries) < len(keys):
        report = progress or (lambda share: None)
        report(0.0)
        schedule = Schedule(seconds=seconds, threads=device.threads)
        with cache.lock(cache.MEASURING):
            entries = _stored(keys, names)  # again: who held the lock may have measured the same
            missing = [option for option in variants if option not in entries]
            for found in _measure(partial(_opened, variants, device), missing, anchor, schedule, report):
                entries[found.option] = _entry(found, variants[found.option], names)
                cache.store("tables", keys[found.option], asdict(entries[found.option]))
    return _table({option: entries[option] for option in variants}, entries[anchor].anchor, names, device)


def attribute(profile: Mapping[str, float], layers: Iterable[str], model: ModelProto) -> tuple[dict[str, float], float]:
    """A runtime's profile of `model` by node as milliseconds by layer, and the rest. A node belongs to the longest
    layer name that begins its own: runtimes append what they fused (`stem.0/clip_nchwc`, `head.0/WithoutBiases`). What
    no layer begins, functions and quantisers, belongs to the layer whose outputs it reads: it comes and goes with the
    layer's precision."""
    by_length = sorted(layers, key=len, reverse=True)
    times, rest = dict.fromkeys(by_length, 0.0), 0.0
    outputs = {value.name for value in model.graph.output}
    # OpenVINO calls the node that writes an output of the graph after that output.
    writers = {name: node.name for node in model.graph.node for name in node.output if name in outputs}
    behind = _behind(model, by_length)
    longest = sorted(behind, key=len, reverse=True)
    for node, ms in profile.items():
        called = writers.get(node, node)
        owner = next((name for name in by_length if begins(called, name)), None)
        if owner is None:
            owner = next((behind[name] for name in longest if begins(called, name)), None)
        if owner is None:
            rest += ms
        else:
            times[owner] += ms
    return times, rest


def _behind(model: ModelProto, layers: Iterable[str]) -> dict[str, str]:
    """Node to the layer that it follows, along the first thing that each reads."""
    names, makers, found = set(layers), dict[str, str](), dict[str, str]()
    for node in model.graph.node:
        owner = node.name if node.name in names else found.get(makers.get(node.input[0], ""), "") if node.input else ""
        if owner and node.name:
            found[node.name] = owner
        makers.update(dict.fromkeys(node.output, node.name))
    return found


def begins(node: str, layer: str) -> bool:
    """Whether a runtime's name of a node is a layer's with something appended."""
    return node.startswith(layer) and not re.match(r"[A-Za-z0-9.]", node[len(layer) :])


@dataclass(frozen=True)
class _Entry:
    """One option, in multiples of the anchor's time in the same turns. `anchor`: that time in ms; a table's multiples
    are of the one in the anchor's own entry."""

    anchor: float
    total: float
    layers: Mapping[str, float]
    rest: float


class _Measured(NamedTuple):
    """An option, the milliseconds of the anchor, the option's time in multiples of that, and its profile."""

    option: str
    anchor: float
    total: float
    profile: Mapping[str, float]


def _table(entries: Mapping[str, _Entry], ms: float, names: list[str], device: Device) -> LatencyTable:
    """`ms`: of the anchor."""
    totals = {option: ms * entry.total for option, entry in entries.items()}
    layers = {name: {option: ms * entry.layers[name] for option, entry in entries.items()} for name in names}
    rest = {option: ms * entry.rest for option, entry in entries.items()}
    return LatencyTable(device.fingerprint, totals, layers, rest)


def _entry(found: _Measured, model: ModelProto, names: list[str]) -> _Entry:
    times, rest = attribute(found.profile, names, model)
    scale = found.total / max(sum(times.values()) + rest, 1e-9)
    return _Entry(found.anchor, found.total, {name: times[name] * scale for name in names}, rest * scale)


def _measure(
    opened: Callable[..., runtimes.Session],
    missing: Sequence[str],
    anchor: str,
    schedule: Schedule,
    report: Callable[[float], object],
) -> Iterator[_Measured]:
    """Each of the missing options as soon as it is known. `schedule`: of all together."""
    if not missing:
        return
    first = opened(anchor)
    x = np.zeros(first.inputs[0].shape, np.float32)
    ordered = sorted(missing, key=lambda option: option != anchor)
    groups = [ordered[start : start + _TURNS] for start in range(0, len(ordered), _TURNS)]
    schedule = replace(schedule, seconds=schedule.seconds / len(groups))
    for number, group in enumerate(groups):
        sessions = {anchor: first} | {option: opened(option) for option in group if option != anchor}
        subjects = {option: partial(session, x) for option, session in sessions.items()}
        share = partial(part, report, number, len(groups))
        samples = interleave(subjects, schedule, share).primary()
        del sessions, subjects  # before others are opened
        for option in group:
            ratio = float(np.median(samples[option] / samples[anchor]))
            profile = opened(option, profile=True).profile(x, runs=_PROFILED_RUNS)
            yield _Measured(option, float(np.median(samples[anchor])), ratio, profile)


def part(report: Callable[[float], object], done: int, parts: int, share: float) -> None:
    """Reports `share` of one of several parts as a share of all."""
    report((done + share) / parts)


def _opened(variants: Mapping[str, ModelProto], device: Device, option: str, profile: bool = False) -> runtimes.Session:
    runtime = runtimes.get(_runtime(option, device))
    graph = variants[option].SerializeToString()
    session: runtimes.Session = runtime.open(graph, threads=device.threads, profile=profile)
    return session


def _runtime(option: str, device: Device) -> str:
    return runtimes.for_floats(device.runtime) if option == FLOAT else device.runtime


def _stored(keys: Mapping[str, str], names: list[str]) -> dict[str, _Entry]:
    """Those of the options that are in the cache."""
    found = {}
    for option, key in keys.items():
        with contextlib.suppress(ValueError):  # absent, or damaged
            entry = schema.read(cache.load("tables", key), _Entry, "entry")
            if list(entry.layers) == names:
                found[option] = entry
    return found


def _keys(variants: Mapping[str, ModelProto], anchor: str, names: list[str], device: Device) -> dict[str, str]:
    """Option to what its entry is called."""
    digests = {option: hashlib.sha256(model.SerializeToString()).hexdigest() for option, model in variants.items()}
    found = {}
    for option, digest in digests.items():
        runtime = _runtime(option, device)
        version = runtimes.get(runtime).version()  # the fingerprint has that of the device's only
        told = repr((device.fingerprint, runtime, version, names, digests[anchor], digest))
        found[option] = hashlib.sha256(told.encode()).hexdigest()[:32]
    return found
