"""The profile of a graph on one runtime: the time of each operator, and what the machine could do in it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from onnx import ModelProto

from shoestring.core.device import Device
from shoestring.core.layer import CONV, DEPTHWISE, Layer
from shoestring.core.profile import Operator, Profile
from shoestring.deploy import runtimes
from shoestring.deploy.inventory import inventory
from shoestring.deploy.normal_form import is_quantised
from shoestring.deploy.rewrite import named, rebatch
from shoestring.deploy.traffic import traffic
from shoestring.measure.machine import pinned
from shoestring.measure.timing import Schedule, interleave, noise
from shoestring.pipeline.roof import roof
from shoestring.pipeline.table import begins

OWN = "of the runtime"  # reorders, and what it has made of our nodes under names of its own
_RUNS = 50
_APART = 1.5  # times: a run and its operators that differ by more need a word


def profile(
    file: str,
    model: ModelProto,
    device: Device,
    batch: int = 1,
    seconds: float = 4.0,
    progress: Callable[[str, float], object] | None = None,
) -> Profile:
    """Times `model` (one batch of which has one size; shapes inferred) whole and operator by operator on `device`.
    `file`: what it is called. `seconds`: how long to time the whole at most, half of it before the operators and half
    after them, so that a machine that gets slower does not look like the cost of profiling."""
    report = progress or (lambda stage, share: None)
    model = rebatch(named(model), batch)
    data, runtime = model.SerializeToString(), runtimes.get(device.runtime)
    schedule = Schedule(seconds=seconds / 2, threads=device.threads)
    with pinned(device.threads):
        report("measuring the roof", 0.0)
        top = roof(device.runtime, device.threads, is_quantised(model), sum(traffic(model).values()))
        report("measuring the roof", 1.0)
        plain, watched = (runtime.open(data, threads=device.threads, profile=watch) for watch in (False, True))
        inputs = [noise(spec.shape, spec.dtype) for spec in plain.inputs]
        run = {"run": partial(plain, *inputs)}
        before = interleave(run, schedule, lambda share: report("timing", 0.4 * share))
        times = watched.profile(*inputs, runs=_RUNS)
        after = interleave(run, schedule, lambda share: report("timing", 0.6 + 0.4 * share))
    ms = float(np.mean([timings.measurement("run").value for timings in (before, after)]))
    operators = sorted(_operators(times, model, watched, batch), key=lambda operator: -operator.ms)
    found = Profile(file, {**device.to_json(), "batch": batch}, ms, top, tuple(operators))
    return replace(found, notes=_notes(found))


def _operators(times: Mapping[str, float], model: ModelProto, session: Any, batch: int) -> Iterator[Operator]:
    """`times`: ms by node, in the runtime's names. What a runtime appended to the name of a layer is taken away; what
    it reports under several such names is added up."""
    work = _stated(model, batch)
    if hasattr(session, "steps"):  # the engine says itself what it does
        work |= _executed(session.steps(), work, batch)
    layers = sorted((layer.name for layer in inventory(model)), key=len, reverse=True)
    spent: dict[str, float] = defaultdict(float)
    for node, ms in times.items():
        spent[node if node in work else next((name for name in layers if begins(node, name)), node)] += ms
    for node, ms in spent.items():
        yield replace(work.get(node) or Operator(node, OWN, 0.0), ms=ms)


def _notes(found: Profile) -> tuple[str, ...]:
    if found.profiled_ms > _APART * found.ms:
        return ("The operators take far longer than a run: the machine was busy, or the runtime's profiler is slow.",)
    if found.ms > _APART * found.profiled_ms:
        return ("A run takes far longer than its operators: the rest is between them.",)
    return ()


def _stated(model: ModelProto, batch: int) -> dict[str, Operator]:
    """Each node without its time, as a runtime executes it that multiplies by zeros like by any other number."""
    layers, moved = {layer.name: layer for layer in inventory(model)}, traffic(model)
    found = {}
    for node in model.graph.node:
        layer = layers.get(node.name)
        macs = batch * layer.macs if layer else 0
        found[node.name] = Operator(
            node.name, _label(layer) if layer else node.op_type, 0.0, macs, macs, moved[node.name]
        )
    return found


def _executed(steps: Iterable[Any], stated: Mapping[str, Operator], batch: int) -> dict[str, Operator]:
    """Each node without its time, as the engine executes it; the first of several steps gives the label."""
    found: dict[str, Operator] = {}
    for step in steps:
        dense = stated[step.name].dense if step.name in stated else 0
        before = found.get(step.name) or Operator(step.name, step.label, 0.0, dense=dense)
        executed, moved = before.executed + batch * step.multiplies, before.bytes + batch * step.bytes
        found[step.name] = replace(before, executed=executed, bytes=moved)
    return found


def _label(layer: Layer) -> str:
    kernel = "x".join(map(str, layer.weight[2:]))
    return f"{layer.kind} {kernel}" if layer.kind in (CONV, DEPTHWISE) else layer.op
