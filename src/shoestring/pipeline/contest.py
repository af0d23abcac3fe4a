"""The contest: the subject and every baseline, timed in turns in one process, told as speed-ups with their split.

Baselines are the original in fp32, in bf16 where a runtime lowers float to it by itself, and in dense int8, each on
every stock runtime here; the fastest of each precision is the one to beat. Other files may run on our own engine too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import ModelProto

from shoestring.core.receipt import Baseline, Speedup
from shoestring.core.statistics import Interval
from shoestring.deploy import runtimes
from shoestring.deploy.rewrite import lean
from shoestring.measure.timing import Schedule, Timings, interleave, noise

SUBJECT = "subject"
_OF_THE_SPLIT = "splits the speed-up into runtime and structure; not a baseline to beat"
_PRECISIONS = ("fp32", "bf16", "int8")


@dataclass(frozen=True)
class Entrant:
    """One graph on one runtime. `precision`: fp32, bf16, int8 of the original, or the name of another file; `quality`
    when it was judged."""

    precision: str
    runtime: str
    graph: bytes
    size: int
    quality: float | None = None
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.precision}@{self.runtime}"


@dataclass(frozen=True)
class Contest:
    """`timings` of SUBJECT and of every baseline by its key; `failed`: runtimes that refused a graph, and why."""

    subject: Entrant
    baselines: tuple[Entrant, ...]
    timings: Timings
    failed: tuple[str, ...] = ()

    def ms(self, key: str) -> float:
        return float(np.median(self.timings.primary()[key]))

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entrant.precision for entrant in self.baselines))

    def best(self, precision: str) -> Entrant | None:
        """The fastest baseline of a precision on a stock runtime, or of another file on any."""
        names = runtimes.STOCK if precision in _PRECISIONS else runtimes.NAMES
        found = (e for e in self.baselines if e.precision == precision and e.runtime in names)
        return min(found, key=lambda e: self.ms(e.key), default=None)

    def ratio(self, entrant: Entrant) -> Interval:
        return self.timings.ratio(SUBJECT, entrant.key)


def entrants(
    original: ModelProto, int8: ModelProto | None, runtime: str, qualities: Mapping[str, float | None]
) -> list[Entrant]:
    """The baselines on every stock runtime, and dense int8 on the subject's `runtime` when that is another: the figure
    that tells its own speed from that of the structure. `qualities`: precision to what it reached, where judged."""
    graphs = {"fp32": lean(original)}
    if int8 is not None:
        graphs["int8"] = lean(int8)
    found = []
    for name in runtimes.installed(runtimes.STOCK):
        for precision, graph in graphs.items():
            found.append(Entrant(precision, name, graph, len(graph), qualities.get(precision)))
        if runtimes.get(name).default_precision(graphs["fp32"]) == "bf16":
            found.append(Entrant("bf16", name, graphs["fp32"], len(graphs["fp32"]), note="the runtime's default"))
    if int8 is not None and runtime not in runtimes.STOCK:
        graph = graphs["int8"]
        found.append(Entrant("int8", runtime, graph, len(graph), qualities.get("int8"), _OF_THE_SPLIT))
    return found


def hold(
    subject: Entrant,
    baselines: list[Entrant],
    shape: tuple[int, ...],
    schedule: Schedule,
    progress: Callable[[float], object] | None = None,
) -> Contest:
    """Times all on noise of `shape` (batch first). A runtime that refuses a baseline is left out and named."""
    x = noise(shape)
    sessions = {SUBJECT: _open(subject, schedule.threads, "default")}
    kept, failed = [], []
    for entrant in baselines:
        try:
            # fp32 says fp32, or OpenVINO would lower it to bf16 where it can; all else runs as a user would run it.
            precision = "fp32" if entrant.precision == "fp32" else "default"
            sessions[entrant.key] = _open(entrant, schedule.threads, precision)
            sessions[entrant.key](x)
            kept.append(entrant)
        except Exception as error:  # a baseline that cannot run is no baseline, and no reason to stop
            failed.append(f"{entrant.precision} on {entrant.runtime} left out: {' '.join(str(error).split())[:120]}")
    timings = interleave({name: partial(session, x) for name, session in sessions.items()}, schedule, progress)
    return Contest(subject, tuple(kept), timings, tuple(failed))


def told_baselines(contest: Contest) -> tuple[Baseline, ...]:
    bests = {entrant.key for precision in contest.precisions if (entrant := contest.best(precision))}
    return tuple(
        Baseline(
            name=entrant.precision,
            runtime=entrant.runtime,
            latency_ms=contest.ms(entrant.key),
            size_bytes=entrant.size,
            quality=entrant.quality,
            best=entrant.key in bests,
            cpu_ms=float(np.median(contest.timings.cpu[entrant.key])),
            note=entrant.note,
        )
        for entrant in contest.baselines
    )


def speedups(contest: Contest, macs: tuple[int, int]) -> tuple[Speedup, ...]:
    """Against the best of each precision. `macs`: (original, subject): what structure promised."""
    promised = macs[0] / macs[1] if macs[1] else 1.0
    found = []
    for precision in contest.precisions:
        best = contest.best(precision)
        if best is None:
            continue
        interval = contest.ratio(best)
        realised = interval.value / promised if promised > 1.0 else None
        split = _split(contest, best, interval.value)
        found.append(Speedup(precision, interval.value, interval.low, interval.high, split, realised))
    return tuple(found)


def _split(contest: Contest, best: Entrant, ratio: float) -> dict[str, float]:
    """Factors that multiply to `ratio`: another runtime for the same precision, then the subject's precision, then a
    sparser or smaller structure. Where the subject's runtime cannot run the baseline (floats on the engine) precision
    comes first, on the stock runtimes. Empty when neither way was measured."""
    subject = contest.subject
    dense = f"{subject.precision}@{subject.runtime}"
    here = f"{best.precision}@{subject.runtime}"
    stock = contest.best(subject.precision)
    if dense not in contest.timings.wall:
        return {}
    if here in contest.timings.wall:
        runtime = contest.ms(best.key) / contest.ms(here)
        precision = contest.ms(here) / contest.ms(dense)
    elif stock is not None:
        runtime = contest.ms(stock.key) / contest.ms(dense)
        precision = contest.ms(best.key) / contest.ms(stock.key)
    else:
        return {}
    return {"runtime": runtime, "precision": precision, "structure": ratio / (runtime * precision)}


def _open(entrant: Entrant, threads: int, precision: str) -> runtimes.Session:
    session: runtimes.Session = runtimes.get(entrant.runtime).open(entrant.graph, threads=threads, precision=precision)
    return session
