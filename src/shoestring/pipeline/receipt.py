"""The receipt of a graph: everything measured, in one process, against the best honest baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto

from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, ShoestringError
from shoestring.core.measurement import Measurement
from shoestring.core.receipt import BudgetLine, LayerTime, Quality, Receipt, Rung, Subject
from shoestring.deploy import runtimes
from shoestring.deploy.counts import counts
from shoestring.deploy.footprint import load_and_run
from shoestring.deploy.normal_form import is_quantised
from shoestring.deploy.rewrite import lean, rebatch
from shoestring.measure.machine import pinned
from shoestring.measure.memory import peak_mb
from shoestring.measure.micronet import IMAGENET, Reference, micronet
from shoestring.measure.timing import Schedule
from shoestring.pipeline.contest import SUBJECT, Contest, Entrant, entrants, hold, speedups, told_baselines
from shoestring.pipeline.judge import Weights, budget_lines, quality, verdict
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.table import attribute

Progress = Callable[[str, float], object]


@dataclass(frozen=True)
class Case:
    """What is to be judged. `subject`, `original`, `int8`: graphs at batch 1 (`int8` None: no such baseline). `size`:
    bytes of the file. `layers`: names for the per-layer times. `macs`: (original, subject). `samples` with `trained`
    networks give a quality. `others`: further baselines by name, any graphs. `notes`: passed on to the reader.
    `reference`: what the MicroNet score is relative to, ImageNet's for data that was not in that challenge."""

    file: str
    subject: ModelProto
    original: ModelProto
    int8: ModelProto | None
    size: int
    device: Device
    layers: Sequence[str] = ()
    macs: tuple[int, int] = (0, 0)
    samples: Samples | None = None
    trained: bool = True
    others: Mapping[str, ModelProto] | None = None
    notes: tuple[str, ...] = ()
    reference: Reference = IMAGENET


def measure(
    case: Case, budget: Budget, batch: int = 1, seconds: float = 20.0, progress: Progress | None = None
) -> Receipt:
    """Judges quality, holds the contest, measures memory and layers, and gives the verdict on `budget`."""
    report = progress or (lambda stage, share: None)
    threads, runtime = case.device.threads, case.device.runtime
    judged, qualities = _judge(case, report)
    subject, original, int8 = (
        None if g is None else rebatch(g, batch) for g in (case.subject, case.original, case.int8)
    )
    assert subject is not None and original is not None
    baselines = entrants(original, int8, runtime, qualities)
    for name, graph in (case.others or {}).items():
        data, names = lean(rebatch(graph, batch)), runtimes.NAMES if is_quantised(graph) else runtimes.STOCK
        baselines += [Entrant(name, r, data, len(data)) for r in runtimes.installed(names)]
    precision = "int8" if is_quantised(case.subject) else "fp32"
    entrant = Entrant(precision, runtime, subject.SerializeToString(), case.size)
    shape = (batch, *(axis.dim_value for axis in subject.graph.input[0].type.tensor_type.shape.dim[1:]))
    schedule = Schedule(seconds=seconds, threads=threads)
    with pinned(threads):
        contest = hold(entrant, baselines, shape, schedule, lambda share: report("timing", share))
        layers = _layer_times(case, report)
    score, unscored = _score(case)
    weights = replace(_weights(case, contest, report), micronet=score.value if score else None)
    lines = budget_lines(budget, contest, weights, judged)
    noisy = not all(contest.ratio(e).steady for p in contest.precisions if (e := contest.best(p)))
    return Receipt(
        device=device_facts(case.device, batch, contest),
        subject=Subject(
            file=case.file,
            runtime=runtime,
            latency_ms=contest.ms(SUBJECT),
            size_bytes=case.size,
            peak_mb=weights.memory,
            quality=judged.subject if judged else None,
            cpu_ms=float(np.median(contest.timings.cpu[SUBJECT])),
        ),
        baselines=told_baselines(contest),
        speedup=speedups(contest, case.macs),
        quality=judged,
        budget=lines,
        verdict=verdict(lines, noisy),
        layers=layers,
        notes=(*case.notes, *contest.failed, *unscored, *_unmeasured(lines)),
        micronet=score,
    )


def _unmeasured(lines: Sequence[BudgetLine]) -> list[str]:
    cures = {
        "quality": "give --original MODEL and --data DIR",
        "memory": "this system does not tell a peak",
        "micronet": "an operator has no rule for it",
    }
    return [
        f"{line.limit} was not measured: {cures.get(line.limit, 'nothing to compare with')}."
        for line in lines
        if line.got is None
    ]


def device_facts(device: Device, batch: int, contest: Contest) -> dict[str, Any]:
    return {
        "processor": device.processor,
        "isa": list(device.isa),
        "cores": device.cores,
        "threads": device.threads,
        "batch": batch,
        "runtimes": {name: runtimes.get(name).version() for name in runtimes.installed()},
        "clock": "CPU time" if device.threads == 1 else "wall time",
        "rounds": len(contest.timings.wall[SUBJECT]),
    }


def _judge(case: Case, report: Progress) -> tuple[Quality | None, dict[str, float | None]]:
    """Subject against original on the judgement inputs, the subject in the runtime that is timed."""
    if case.samples is None or not case.trained or not len(case.samples.judgement):
        return None, {}
    report("judging", 0.0)
    threads, inputs = case.device.threads, case.samples.judgement
    original = outputs(case.original, "onnxruntime", inputs, threads)
    report("judging", 0.4)
    judged = quality(outputs(case.subject, case.device.runtime, inputs, threads), original, case.samples)
    report("judging", 0.7)
    qualities: dict[str, float | None] = {"fp32": judged.original}
    if case.int8 is not None:
        dense = outputs(case.int8, case.device.runtime, inputs, threads)
        qualities["int8"] = quality(dense, original, case.samples).subject
    report("judging", 1.0)
    return judged, qualities


def _layer_times(case: Case, report: Progress) -> tuple[LayerTime, ...]:
    """Profiles on the subject's runtime; the sums are larger than the latency, because profiling costs time too."""
    if not case.layers:
        return ()
    report("profiling layers", 0.0)
    name, found = case.device.runtime, []
    for graph, runtime, precision in (
        (case.original, runtimes.for_floats(name), "fp32"),
        (case.subject, name, "default"),
    ):
        data = graph.SerializeToString()
        session = runtimes.get(runtime).open(data, threads=case.device.threads, precision=precision, profile=True)
        x = np.zeros(session.inputs[0].shape, np.float32)
        found.append(attribute(session.profile(x), case.layers, graph)[0])
    before, after = found
    report("profiling layers", 1.0)
    return tuple(LayerTime(name, before[name], after[name]) for name in case.layers if before[name] or after[name])


def _score(case: Case) -> tuple[Measurement | None, list[str]]:
    """The MicroNet score of the subject, or why there is none."""
    try:
        return micronet(counts(case.subject), case.reference), []
    except BadInput as error:
        return None, [f"No MicroNet score: {error}."]


def _weights(case: Case, contest: Contest, report: Progress) -> Weights:
    report("measuring memory", 0.0)
    best = contest.best("fp32")
    graphs = [(case.subject, case.device.runtime), (case.original, best.runtime if best else case.device.runtime)]
    ours, theirs = (peak(graph, runtime, case.device.threads) for graph, runtime in graphs)
    report("measuring memory", 1.0)
    return Weights(case.size, len(lean(case.original)), ours, theirs)


def peak(graph: ModelProto, runtime: str, threads: int) -> float | None:
    """MB of a process that runs the graph; None on a system that does not tell."""
    try:
        return peak_mb(load_and_run, graph.SerializeToString(), runtime, threads)
    except ShoestringError:
        return None


def rung(shape: str, ms: float, judged: Quality | None, peak_mb: float | None) -> Rung:
    """An operating point as a receipt tells it."""
    found = Rung(shape, ms, peak_mb=peak_mb)
    if judged is None:
        return found
    return replace(found, quality=judged.subject, difference=judged.difference, low=judged.low, high=judged.high)
