"""Turns, bursts and clocks with a clock of our own; the real clocks on sleeping and working callables."""

import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.measure.timing import Schedule, Timings, interleave, noise

MS = 1_000_000


class Fake:
    """A machine whose calls take what we say. `wall` and `cpu` are its clocks, `log` the calls in their order."""

    def __init__(self) -> None:
        self.now, self.busy = 0, 0
        self.log: list[str] = []

    def clocks(self) -> tuple[Callable[[], int], Callable[[], int]]:
        return (lambda: self.now), (lambda: self.busy)

    def subject(self, name: str, wall: Callable[[], int], cpu: int) -> Callable[[], None]:
        def call() -> None:
            self.log.append(name)
            self.now += wall()
            self.busy += cpu

        return call


def turns(log: list[str]) -> list[str]:
    return [name for name, _ in itertools.groupby(log)]


def test_turns_are_balanced_and_bursts_begin_with_a_call_that_is_not_counted() -> None:
    fake = Fake()
    subjects = {name: fake.subject(name, lambda: 10 * MS, 9 * MS) for name in "ABC"}
    timings = interleave(subjects, Schedule(rounds=(40, 40), spread=0, warm_up=3), clocks=fake.clocks())
    assert turns(fake.log[:9]) == ["A", "B", "C"]
    calls = fake.log[9:]
    assert len(calls) == 40 * 3 * 2
    assert calls[::2] == calls[1::2]
    order = [tuple(calls[start : start + 6 : 2]) for start in range(0, len(calls), 6)]
    assert all(sorted(names) == ["A", "B", "C"] for names in order)
    assert all(there == back[::-1] for there, back in zip(order[::2], order[1::2], strict=True))
    assert len(set(order)) == 6
    # Over any pair of rounds each subject has the same mean place, so position effects cancel.
    places = Counter((name, place) for names in order for place, name in enumerate(names))
    assert all(places[name, 0] == places[name, 2] for name in "ABC")
    assert timings.calls == {"A": 1, "B": 1, "C": 1}
    assert timings.wall["A"].tolist() == [10.0] * 40
    assert timings.cpu["B"].tolist() == [9.0] * 40


def test_the_order_follows_the_seed() -> None:
    logs = []
    for seed in (1, 1, 2):
        fake = Fake()
        subjects = {name: fake.subject(name, lambda: 10 * MS, MS) for name in "ABCD"}
        interleave(subjects, Schedule(rounds=(20, 20), seed=seed), clocks=fake.clocks())
        logs.append(fake.log)
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize(("each", "calls"), [(100, 20_000), (30_000, 67), (700_000, 3), (5 * MS, 1)])
def test_short_calls_are_repeated_inside_a_sample(each: int, calls: int) -> None:
    fake = Fake()
    timings = interleave(
        {"A": fake.subject("A", lambda: each, each // 2)}, Schedule(rounds=(8, 8), warm_up=1), clocks=fake.clocks()
    )
    calls = min(calls, 10_000)
    assert timings.calls == {"A": calls}
    assert len(fake.log) == 1 + 8 * (1 + calls)
    assert timings.wall["A"] == pytest.approx(np.full(8, each / 1e6))
    assert timings.cpu["A"] == pytest.approx(np.full(8, each / 2e6))


def test_a_disturbed_warm_up_does_not_decide_the_burst() -> None:
    fake = Fake()
    walls = itertools.chain([900 * MS, 50_000], itertools.repeat(50_000))
    timings = interleave(
        {"A": fake.subject("A", lambda: next(walls), 1)}, Schedule(rounds=(8, 8)), clocks=fake.clocks()
    )
    assert timings.calls == {"A": 40}


def noisy(fake: Fake, spread: float, seed: int) -> Callable[[], None]:
    random = np.random.default_rng(seed)
    return fake.subject("x", lambda: int(10 * MS * np.exp(spread * random.standard_normal())), MS)


def test_stops_when_narrow_when_out_of_time_and_at_the_bounds() -> None:
    def rounds(noise: float, schedule: Schedule) -> int:
        fake = Fake()
        timings = interleave({"A": noisy(fake, noise, 1), "B": noisy(fake, noise, 2)}, schedule, clocks=fake.clocks())
        return len(timings.wall["A"])

    # Threads 2: the wall clock is the one that is noisy here. A round is 2 subjects * 2 calls * 10 ms.
    assert rounds(0.001, Schedule(seconds=100, threads=2)) == 40
    assert 40 < rounds(0.06, Schedule(seconds=100, threads=2)) < 2000
    assert rounds(0.5, Schedule(seconds=4, threads=2)) == pytest.approx(100, abs=15)
    assert rounds(0.5, Schedule(seconds=0.1, threads=2)) == 40
    assert rounds(0.5, Schedule(seconds=1000, threads=2, rounds=(40, 60))) == 60


def test_progress_goes_from_zero_to_one() -> None:
    fake, shares = Fake(), []
    interleave({"A": noisy(fake, 0.5, 1)}, Schedule(seconds=1, threads=2), shares.append, fake.clocks())
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] == 1.0


def test_garbage_is_not_collected_meanwhile_and_is_again_afterwards() -> None:
    seen: list[bool] = []

    def fails_later() -> None:
        seen.append(gc.isenabled())
        if len(seen) > 20:
            raise RuntimeError("subject")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="subject"):
        interleave({"A": fails_later})
    assert gc.isenabled()
    assert set(seen) == {False}


def test_cpu_time_ignores_waiting_and_wall_time_does_not() -> None:
    def works() -> float:
        return sum(range(20_000))

    def works_and_waits() -> float:
        time.sleep(0.003)
        return sum(range(20_000))

    timings = interleave({"works": works, "waits": works_and_waits}, Schedule(seconds=1, rounds=(30, 60), spread=0))
    assert np.median(timings.wall["waits"] - timings.cpu["waits"]) >= 2.5
    assert np.median(timings.wall["waits"]) > 3
    assert np.median(timings.cpu["waits"]) < 2
    assert timings.primary() is timings.primary(1) is timings.cpu
    assert timings.primary(2) is timings.wall


def test_known_work_gives_its_ratio() -> None:
    """Twice the loop is twice the time, whatever else this machine is doing."""

    def loop(times: int) -> Callable[[], None]:
        def call() -> None:
            for _ in itertools.repeat(None, times):
                pass

        return call

    timings = interleave({"once": loop(40_000), "twice": loop(80_000)}, Schedule(seconds=2, spread=0.005))
    ratio = timings.ratio("once", "twice")
    assert ratio.value == pytest.approx(2.0, rel=0.05)
    assert timings.ratio("twice", "once").value == pytest.approx(1 / ratio.value)


def test_measurement_says_how() -> None:
    samples = {"A": np.linspace(1.9, 2.1, 41)}
    one, two = Timings(samples, samples, {"A": 3}), Timings(samples, samples, {"A": 3}, threads=2)
    measurement = one.measurement("A", on="a test")
    assert (measurement.value, measurement.unit, measurement.n) == (pytest.approx(2.0), "ms", 41)
    assert measurement.low < 2.0 < measurement.high
    assert "CPU time" in measurement.how
    assert "3 warm calls" in measurement.how
    assert measurement.on == "a test"
    assert "wall time" in two.measurement("A").how
    assert two.measurement("A").on.endswith("2 threads")


@pytest.mark.parametrize("wrong", [{"rounds": (4, 10)}, {"rounds": (50, 10)}, {"warm_up": 0}, {"threads": 0}])
def test_schedules_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(BadInput, match="timing"):
        Schedule(**wrong)


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(BadInput, match="no subject"):
        interleave({})


def test_noise_is_the_same_each_time_and_zeros_of_whole_numbers() -> None:
    first, again = noise((2, 1000)), noise((2, 1000))
    assert first.dtype == np.float32 and np.array_equal(first, again)
    assert abs(float(first.mean())) < 0.1 and abs(float(first.std()) - 1) < 0.1
    assert not noise((3,), np.int64).any()
