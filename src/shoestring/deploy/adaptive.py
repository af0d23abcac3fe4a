"""An artifact that keeps a deadline: `shoestring.load("x.shoe").adaptive(deadline_ms=33)(photograph)`.

Each frame the governor (`deploy/governor.py`) names a point. What it does not take for safe is run over a net: an
answer comes from the cheapest point, or the first exit of a chain, and then the rest; when time is up the answer that
is there is handed out, and the rest is given up, which ends it within a node or two. A runtime that keeps time
(`runtimes.Timed`) runs the rest here and ends by itself: who waits for a thread has to be woken, which comes too late
where others take the cores (`benchmarks/keeping_time.py`). Elsewhere it runs in a thread of its own. What is safe runs
here: handing over to a thread takes 30 to 50 us on an idle machine, and a turn of the scheduler on a busy one. An
answer that its point is sure of ends the frame early.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from shoestring.core.errors import GivenUp
from shoestring.core.ladder import Ladder
from shoestring.core.timeline import Turn
from shoestring.deploy import shoe, signals
from shoestring.deploy.governor import Governor
from shoestring.deploy.prediction import Prediction, best, confident
from shoestring.deploy.preprocess import decoded, input_shape, preprocess
from shoestring.deploy.runtimes import Session
from shoestring.deploy.stages import Handed, Stage, open_stages

_WARM_RUNS, _PREPARE_RUNS = 5, 3
_TRUST = 1.25  # how far a few runs may be from what the file says, relative to its other points
_SIGNALS_S = 5.0
_RESERVE_MS = 4.0  # to wake up or to end in at least: a slice or two of a busy scheduler
_MOST_RESERVE = 0.25  # of the deadline

Ran = tuple[np.ndarray, dict[str, np.ndarray], float]  # answer, what is handed on, ms


class Adaptive:
    """See `deploy.session.Model.adaptive`. `last`: the Turn of the last frame. Not for several threads at once."""

    def __init__(self, artifact: shoe.Artifact, runtime: str, threads: int, deadline_ms: float, miss: float = 0.001):
        self.artifact, self.runtime, self.deadline_ms = artifact, runtime, deadline_ms
        Governor([1.0], deadline_ms, miss=miss)  # refuses a deadline before anything is opened
        self.stages = open_stages(artifact, runtime, threads, range(len(artifact.points)))
        self.network_ms = _expected(artifact.points, self.stages, runtime)
        self._shared = all(stage.spec == self.stages[0].spec for stage in self.stages.values())
        self.governor: Governor | None = None  # until a frame has shown what preprocessing takes
        self.last: Turn | None = None
        self._first: float | None = None  # when the first frame began
        self._miss, self._reserve_ms = miss, min(_RESERVE_MS, _MOST_RESERVE * deadline_ms)
        self._signals, self._looked = signals.Signals(), -math.inf
        self._beside = ThreadPoolExecutor(1, "shoestring-richer")
        self._richer: _Richer | None = None

    def __call__(self, x: Any, top: int = 5) -> list[Prediction]:
        return best(self.outputs(x), self.artifact.labels, top, self.artifact.file)

    def outputs(self, x: Any) -> np.ndarray:
        """The output of one of the points for one raw input, without the batch axis. Raises BadInput like `Model`."""
        start = time.perf_counter()
        image = decoded(self.artifact.preprocess, x)
        frame = _Frame(start, image, {})
        self._first = start if self._first is None else self._first
        if self._shared:
            frame.prepared(self.stages[0].spec)  # before the choice, which then knows what that took
        governor = self.governor
        if governor is None:
            governor = self.governor = self._govern(frame)
        point = governor.choose(frame.since_ms())
        path, netted = self.stages[point].path, governor.net
        if self._richer is not None and self._richer.busy():
            self._richer.give_up()  # it may have been asked when it had only just begun
            netted = True  # until it ends it takes a core, or the memory of a run
        steps = (governor.cheapest, *path) if netted and path != (governor.cheapest,) and len(path) == 1 else path
        answer = self._run(frame, governor, steps, netted)
        self._look(governor)
        return answer

    def _run(self, frame: "_Frame", governor: Governor, steps: Sequence[int], netted: bool) -> np.ndarray:
        """The best answer of `steps` that there is in time; sets `last`. `netted`: what comes after the first step may
        be given up."""
        ran, exited, given_up = self._step(frame, steps[0], None), False, False
        shown, took = steps[0], ran[2]
        for before, step in pairwise(steps):
            exited = confident(ran[0], self.stages[shown].confidence)
            handed = ran[1] if self.artifact.points[step].after == before else None
            left = self.deadline_ms - frame.since_ms() - netted * self._reserve_ms
            likely = governor.likely_ms(step, (shown, took))
            if exited or not self._begins(likely, before, step, handed is not None, left):
                governor.observe(shown, took)
                break
            more, ms = self._timed(frame, step, handed, left if netted else None)
            now = ms + (took if handed is not None else 0.0)
            if more is None:
                governor.observe(shown, took)
                governor.observe(step, now, finished=False)
                given_up = True
                break
            governor.observe(shown, took, aside=True)
            governor.compare(step, now, before, took)
            ran, shown, took = more, step, now
        else:
            governor.observe(shown, took)
        ms = frame.since_ms()
        at_s = frame.start - (self._first or 0.0)
        self.last = Turn(shown, ms, self.deadline_ms, ms > self.deadline_ms, exited, given_up, at_s)
        return ran[0]

    def _begins(self, likely: float, before: int, step: int, goes_on: bool, left: float) -> bool:
        """Whether `step`, of `likely` ms with what it goes on from, will be in time; and nothing that was given up and
        has not ended would be beside it."""
        if self._richer is not None and self._richer.busy():
            return False
        part = max(self.network_ms[step] - goes_on * self.network_ms[before], 0.0)
        return likely * part / self.network_ms[step] <= left

    def _timed(self, frame: "_Frame", step: int, handed: Handed | None, left: float | None) -> tuple[Ran | None, float]:
        """A step and the ms it took; None where it was given up after `left` ms, for want of as many to end in as are
        kept ready."""
        if left is None:
            ran = self._step(frame, step, handed)
            return ran, ran[2]
        begun = time.perf_counter()
        if self.stages[step].session.keeps_time:
            found = self._here(frame, step, handed, begun + (left + self._reserve_ms) / 1000)
        else:
            found = self._aside(frame, step, handed, left)
        took = 1000 * (time.perf_counter() - begun)  # threads that hand over wait for a core, too
        if took > left:
            self._wake(took - left)
        return found, took

    def _here(self, frame: "_Frame", step: int, handed: Handed | None, end: float) -> Ran | None:
        """In this thread, which gives up before `end` and need not be woken."""
        try:
            return self._step(frame, step, handed, end)
        except GivenUp:
            return None

    def _aside(self, frame: "_Frame", step: int, handed: Handed | None, left: float) -> Ran | None:
        """In a thread beside this one, which waits so many ms."""
        future = self._beside.submit(self._step, frame, step, handed)
        self._richer = _Richer(frame, future, self.stages[step].session)
        try:
            return future.result(left / 1000)
        except TimeoutError:
            self._richer.give_up()
            return None

    def _step(self, frame: "_Frame", point: int, handed: Handed | None, end: float = math.inf) -> Ran:
        """One stage, timed; with its preprocessing, wherever in the frame that was done, unless all points share it.
        `end`: on `time.perf_counter`'s clock, for runtimes that keep time."""
        stage, prepare_ms = self.stages[point], 0.0
        given: np.ndarray | Handed
        if handed is None:
            given, prepare_ms = frame.prepared(stage.spec)
        else:
            given = handed
        if frame.over:
            raise GivenUp("adaptive: time was up before the network began")
        begun = time.perf_counter()
        answer, more = stage(given, end - begun, self._reserve_ms / 1000)
        return answer, more, 1000 * (time.perf_counter() - begun) + (0.0 if self._shared else prepare_ms)

    def _govern(self, frame: "_Frame") -> Governor:
        """The governor, once a frame has shown what each size takes to prepare."""
        points, paths = self.artifact.points, [self.stages[point].path for point in range(len(self.stages))]
        prepare = [0.0 if self._shared else frame.quickest(self.stages[path[0]].spec) for path in paths]
        expected = [ms + more for ms, more in zip(self.network_ms, prepare, strict=True)]
        cheapest = min(range(len(points)), key=expected.__getitem__)
        under = [path[0] if len(path) > 1 else cheapest for path in paths]
        netted = []
        for point, path in enumerate(paths):
            same = self.stages[point].spec == self.stages[cheapest].spec  # what both prepare is prepared once
            more = expected[cheapest] - same * prepare[point]
            netted.append(expected[point] + (0.0 if point == cheapest or len(path) > 1 else more))
        found = [_number(point.measured.get("quality")) for point in points]
        quality = [value for value in found if value is not None]
        worth = quality if len(quality) == len(points) else None
        self.network_ms = expected
        return Governor(expected, self.deadline_ms, worth, netted_ms=netted, under=under, miss=self._miss)

    def _wake(self, late_ms: float) -> None:
        """How late this thread woke, or got a core to end on: kept ready the next time, and slowly less."""
        kept = max(0.99 * self._reserve_ms, 1.5 * late_ms, _RESERVE_MS)
        self._reserve_ms = min(kept, _MOST_RESERVE * self.deadline_ms)

    def _look(self, governor: Governor) -> None:
        now = time.monotonic()
        if now - self._looked >= _SIGNALS_S:
            found = signals.read()
            governor.limit = signals.cap(len(self.stages), signals.share(found, self._signals))
            self._signals, self._looked = found, now


@dataclass
class _Frame:
    """A frame on its way: its clock, its pixels or points, and what was made of them for each size."""

    start: float
    image: Any
    made: dict[tuple[int, ...], tuple[np.ndarray, float]]
    over: bool = False  # what has not begun is not wanted any more

    def since_ms(self) -> float:
        return 1000 * (time.perf_counter() - self.start)

    def quickest(self, spec: Mapping[str, Any]) -> float:
        """The ms that `spec` takes: the quickest of a few, since the first is not warm."""
        ms = [self.prepared(spec)[1]]
        for _ in range(_PREPARE_RUNS - 1):
            ms.append(_Frame(0.0, self.image, {}).prepared(spec)[1])
        return min(ms)

    def prepared(self, spec: Mapping[str, Any]) -> tuple[np.ndarray, float]:
        """The input [1, ...] for `spec`, and the ms that took."""
        key = tuple(input_shape(spec))
        if key not in self.made:
            begun = time.perf_counter()
            prepared = preprocess(spec, self.image)[None]
            self.made[key] = prepared, 1000 * (time.perf_counter() - begun)
        return self.made[key]


@dataclass(frozen=True)
class _Richer:
    """A step of a frame in a thread of its own."""

    frame: _Frame
    future: "Future[Ran]"
    session: Session

    def busy(self) -> bool:
        return not self.future.done()

    def give_up(self) -> None:
        self.frame.over = True
        if not self.future.cancel():  # it has begun
            self.session.give_up()


def _expected(points: Ladder, stages: Mapping[int, Stage], runtime: str) -> list[float]:
    """Milliseconds of each point's networks here: a few runs in turns, the quickest of each. Where the file's own
    figures are of this runtime, none is further from them than `_TRUST`, relative to the others."""
    own = dict.fromkeys(stages, math.inf)
    noise = {point: _noise(stage) for point, stage in stages.items() if points[point].after is None}
    for _ in range(1 + _WARM_RUNS):
        handed: dict[int, Mapping[str, np.ndarray]] = {}
        for point, stage in stages.items():
            before = points[point].after
            given: Any = handed[before] if before is not None else noise[point]
            begun = time.perf_counter()
            handed[point] = stage(given)[1]
            own[point] = min(own[point], 1000 * (time.perf_counter() - begun))
    here = [sum(own[one] for one in stages[point].path) for point in range(len(points))]
    told = [_number(p.measured.get("latency_ms")) if p.measured.get("runtime") == runtime else None for p in points]
    ratios = [ms / value for ms, value in zip(here, told, strict=True) if value is not None and value > 0]
    if len(ratios) < len(points):
        return here
    scale = statistics.median(ratios)
    pairs = zip(here, (scale * value for value in told if value is not None), strict=True)
    return [min(max(ms, value / _TRUST), value * _TRUST) for ms, value in pairs]


def _noise(stage: Stage) -> np.ndarray:
    """An input to time on. Points that are all one, as zeros are, are a search for neighbours like no other."""
    spec = stage.session.inputs[0]
    return np.random.default_rng(0).standard_normal(spec.shape).astype(spec.dtype)


def _number(value: Any) -> float | None:
    """What a file says of itself may be anything."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None
