"""Paired timing: all subjects in one process, taking turns, so that whatever disturbs one disturbs all."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.core.measurement import Measurement
from shoestring.core.statistics import MIN_ROUNDS, Interval, median_interval, ratio_interval
from shoestring.measure import machine

Subject = Callable[[], object]
Clock = Callable[[], int]
CLOCKS: tuple[Clock, Clock] = (time.perf_counter_ns, time.process_time_ns)

_BURST_NS = 2_000_000
_MAX_CALLS = 10_000
_CHECK_EVERY = 1.5  # intervals are looked at each time the rounds have grown by this: looking costs time, and bias


def noise(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An input to time on, always the same: normal numbers [*shape], of whole-number types zeros, which are indices.
    Among zeros, points that are all one, neighbours are not found as among others."""
    if np.dtype(dtype).kind != "f":
        return np.zeros(shape, dtype)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)


@dataclass(frozen=True)
class Schedule:
    """How long to measure.

    Stops after `seconds`, or when the interval of every ratio to the first subject is within +-`spread` of its value
    and steady, whichever comes first; but not before `rounds[0]` rounds and not after `rounds[1]`. `warm_up`: calls of
    each subject that come first and are not counted. `threads`: what the subjects use; it decides the clock. `seed`:
    of the order of turns.
    """

    seconds: float = 10.0
    spread: float = 0.01
    rounds: tuple[int, int] = (40, 2000)
    warm_up: int = 5
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.rounds
        if not MIN_ROUNDS <= low <= high:
            raise BadInput(f"timing: rounds {low}..{high} do not work; write a rising range from {MIN_ROUNDS}")
        if self.warm_up < 1 or self.threads < 1:
            raise BadInput(f"timing: warm_up={self.warm_up}, threads={self.threads}; both are at least 1")


@dataclass(frozen=True)
class Timings:
    """Milliseconds of one call, one sample a round, in order of time. `wall`, `cpu`: subject to [rounds] (`cpu`: of the
    whole process, all its threads). `calls`: how many calls one sample averages. `threads`: what the subjects used."""

    wall: Mapping[str, np.ndarray]
    cpu: Mapping[str, np.ndarray]
    calls: Mapping[str, int]
    threads: int = 1

    def primary(self, threads: int | None = None) -> Mapping[str, np.ndarray]:
        """The samples to trust: CPU time for one thread, because it ignores pre-emption by other processes; wall time
        for several, because there the sum over threads says nothing about waiting."""
        return self.cpu if (threads or self.threads) == 1 else self.wall

    def ratio(self, subject: str, baseline: str) -> Interval:
        """How many times faster `subject` is than `baseline`: the median over rounds of baseline / subject."""
        samples = self.primary()
        return ratio_interval(samples[subject], samples[baseline])

    def measurement(self, name: str, on: str | None = None) -> Measurement:
        """Median of one call in ms. `on`: the device in words; this processor unless given."""
        interval = median_interval(self.primary()[name])
        clock = "CPU" if self.threads == 1 else "wall"
        how = f"median {clock} time of {interval.n} interleaved rounds, {self.calls[name]} warm calls each"
        on = on or f"{machine.processor()}, {self.threads} thread{'s' * (self.threads > 1)}"
        return Measurement(interval.value, "ms", interval.n, interval.low, interval.high, how, on)


def interleave(
    subjects: Mapping[str, Subject],
    schedule: Schedule | None = None,
    progress: Callable[[float], object] | None = None,
    clocks: tuple[Clock, Clock] = CLOCKS,
) -> Timings:
    """Times `subjects` in turns A B C, C B A, B C A, ...: each random order is followed by its reverse, so that a
    subject's place in the round and a steady drift cancel.

    A turn is a burst: one call that is not counted, because the subject before has emptied the caches, then enough
    calls to fill 2 ms between two readings of the clocks (one, for slow subjects). So a sample is the warm, steady
    state a user has who calls again and again, and clocks with a granularity of microseconds do not matter. Garbage is
    not collected meanwhile. CPU time counts every thread of this process: let nothing else run in it.

    `progress` gets the share done, 0 to 1, between rounds. `clocks`: (wall, CPU), in nanoseconds. Raises BadInput for
    no subject; what a subject raises passes through.
    """
    if not subjects:
        raise BadInput("timing: no subject to time; give at least one")
    schedule = schedule or Schedule()
    start = clocks[0]()
    with _no_garbage_collection():
        calls = {name: _calls_per_turn(subject, schedule.warm_up, clocks[0]) for name, subject in subjects.items()}
        rows: list[np.ndarray] = []
        next_check = schedule.rounds[0]
        for order in _orders(len(subjects), schedule.rounds[1], schedule.seed):
            rows.append(_round(list(subjects.items()), order, calls, clocks))
            elapsed = (clocks[0]() - start) / 1e9
            if progress is not None:
                progress(min(1.0, max(elapsed / schedule.seconds, len(rows) / schedule.rounds[1])))
            if len(rows) < schedule.rounds[0]:
                continue
            if elapsed >= schedule.seconds:
                break
            if len(rows) >= next_check:
                next_check = int(len(rows) * _CHECK_EVERY) + 1
                if _narrow(_timings(rows, calls, schedule.threads), schedule.spread):
                    break
    if progress is not None:
        progress(1.0)
    return _timings(rows, calls, schedule.threads)


def _calls_per_turn(subject: Subject, warm_up: int, clock: Clock) -> int:
    """Warms up, and counts the calls that fill a burst. The fastest call decides: the others were disturbed."""
    fastest = _BURST_NS
    for _ in range(warm_up):
        before = clock()
        subject()
        fastest = min(fastest, clock() - before)
    return min(_MAX_CALLS, -(-_BURST_NS // max(1, fastest)))


def _orders(subjects: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    order = np.arange(subjects)
    for number in range(rounds):
        order = order[::-1] if number % 2 else random.permutation(subjects)
        yield order


def _round(
    subjects: list[tuple[str, Subject]], order: np.ndarray, calls: Mapping[str, int], clocks: tuple[Clock, Clock]
) -> np.ndarray:
    """One turn each; milliseconds a call [2, subjects], wall and CPU."""
    wall, cpu = clocks
    row = np.empty((2, len(subjects)))
    for place in order:
        name, subject = subjects[place]
        repeats = range(calls[name])
        subject()
        wall_start, cpu_start = wall(), cpu()
        for _ in repeats:
            subject()
        cpu_end, wall_end = cpu(), wall()
        row[:, place] = wall_end - wall_start, cpu_end - cpu_start
        row[:, place] /= 1e6 * len(repeats)
    return row


def _timings(rows: list[np.ndarray], calls: Mapping[str, int], threads: int) -> Timings:
    samples = np.stack(rows, axis=-1)
    wall, cpu = (dict(zip(calls, clock, strict=True)) for clock in samples)
    return Timings(wall, cpu, dict(calls), threads)


def _narrow(timings: Timings, spread: float) -> bool:
    """Whether every ratio to the first subject (its own median, when it is alone) is known to +-`spread` and steady."""
    first, *others = timings.calls
    samples = timings.primary()
    # Placement is no reason to go on: more rounds do not remove it.
    pairs = ((samples[first], samples[name]) for name in others)
    known = (ratio_interval(*pair, placement=0.0) for pair in pairs) if others else [median_interval(samples[first])]
    return all(interval.steady and interval.half_width <= spread * interval.value for interval in known)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
