"""Quality, budget lines and verdicts against numbers worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput
from shoestring.core.receipt import FAILS, HOLDS, NOISY, BudgetLine, Quality
from shoestring.measure.timing import Timings
from shoestring.pipeline.contest import SUBJECT, Contest, Entrant
from shoestring.pipeline.judge import Weights, budget_lines, quality, verdict
from shoestring.pipeline.samples import Samples

WEIGHTS = Weights(size=2_000_000, original_size=8_000_000, memory=50.0, original_memory=80.0, micronet=0.297)
QUALITY = Quality("top-1", "pt", 70.0, 69.2, -0.8, -1.5, -0.1, 500)


def contest(subject: np.ndarray, original: np.ndarray, threads: int = 1) -> Contest:
    """`subject` and the original in fp32, milliseconds of CPU time by round; wall time is twice that."""
    cpu = {SUBJECT: subject, "fp32@onnxruntime": original}
    wall = {key: 2 * samples for key, samples in cpu.items()}
    entrant = Entrant("fp32", "onnxruntime", b"", 1)
    return Contest(entrant, (entrant,), Timings(wall, cpu, dict.fromkeys(cpu, 1), threads))


def noise(ms: float, spread: float, seed: int) -> np.ndarray:
    return ms * np.exp(np.random.default_rng(seed).normal(0, spread, 64))


QUIET = contest(noise(2.0, 0.001, 0), noise(4.0, 0.001, 1))
LOUD = contest(noise(2.0, 0.5, 0), noise(4.0, 0.5, 1))
SLOWING = contest(noise(2.0, 0.01, 0) * np.repeat([1.0, 1.5], 32), noise(4.0, 0.01, 1))


def line(
    budget: str, held: Contest = QUIET, weights: Weights = WEIGHTS, judged: Quality | None = QUALITY
) -> BudgetLine:
    (only,) = budget_lines(Budget.parse(budget), held, weights, judged)
    return only


@pytest.mark.parametrize(
    ("budget", "got", "met"),
    [
        ("latency<=2.1ms", 2.0, True),
        ("latency<=1.9ms", 2.0, False),
        ("latency<=2100us", 2.0, True),
        ("latency<=0.6x", 0.5, True),
        ("latency<=0.4x", 0.5, False),
        ("size<=2MB", 2_000_000, True),
        ("size<=1.9MB", 2_000_000, False),
        ("size<=0.25x", 0.25, True),
        ("size<=0.2x", 0.25, False),
        ("memory<=50MB", 50.0, True),
        ("memory<=49MB", 50.0, False),
        ("memory<=0.7x", 0.625, True),
        ("memory<=0.6x", 0.625, False),
        ("micronet<=0.3", 0.297, True),
        ("micronet<=0.29", 0.297, False),
        ("quality>=-1pt", -0.8, True),  # the interval straddles the limit: the estimate decides
        ("quality>=-0.5pt", -0.8, False),
    ],
)
def test_a_quiet_machine_tells(budget: str, got: float, met: bool) -> None:
    limit = Budget.parse(budget).limits[0]
    told = line(budget)
    assert (told.limit, told.asked, told.unit) == (limit.name, limit.value, limit.unit)
    assert told.got == pytest.approx(got, rel=2e-3)
    assert told.met is met


@pytest.mark.parametrize("held", [LOUD, SLOWING], ids=["loud", "slowing"])
def test_a_noisy_machine_does_not(held: Contest) -> None:
    assert line("latency<=0.52x", held).met is None
    assert line("latency<=0.52x", held).got is not None
    assert line("size<=0.25x", held).met is True
    # Whatever the noise, a hundred times is a hundred times; but not when the machine changed under the measurement.
    assert line("latency<=50x", LOUD).met is True
    assert line("latency<=0.005x", LOUD).met is False


def test_several_threads_are_judged_by_wall_time() -> None:
    threads = contest(noise(2.0, 0.001, 0), noise(4.0, 0.001, 1), threads=2)
    assert line("latency<=9ms", threads).got == pytest.approx(4.0, rel=2e-3)


def test_what_was_not_measured_is_left_open() -> None:
    nothing = Weights(size=1, original_size=1)
    assert line("quality>=-1pt", judged=None) == BudgetLine("quality", -1.0, None, "pt", None)
    assert line("memory<=50MB", weights=nothing).got is None
    assert line("memory<=0.5x", weights=Weights(1, 1, memory=3.0)).met is None
    assert line("latency<=0.5x", held=replace(QUIET, baselines=())).got is None
    assert line("latency<=5ms", held=replace(QUIET, baselines=())).met is True
    assert budget_lines(Budget(), QUIET, WEIGHTS, None) == ()


MET, MISSED, OPEN = (BudgetLine("size", 1.0, 1.0, "B", met) for met in (True, False, None))
UNMEASURED = BudgetLine("quality", -1.0, None, "pt", None)


@pytest.mark.parametrize(
    ("lines", "noisy", "expected"),
    [
        ((), False, HOLDS),
        ((), True, NOISY),
        ((MET,), False, HOLDS),
        ((MET,), True, NOISY),
        ((MET, OPEN), False, NOISY),
        ((MET, MISSED), False, FAILS),
        ((MISSED, OPEN), True, FAILS),  # missed is missed
        ((MET, UNMEASURED), False, HOLDS),
    ],
)
def test_verdict(lines: tuple[BudgetLine, ...], noisy: bool, expected: str) -> None:
    assert verdict(lines, noisy) == expected


def samples(n: int, targets: np.ndarray | None = None) -> Samples:
    def scores(outputs: np.ndarray, given: np.ndarray) -> np.ndarray:
        return (outputs.argmax(axis=1) == given).astype(float)

    return Samples([], [np.zeros(1)] * n, targets, scores if targets is not None else None, "top-1")


def test_quality_with_labels() -> None:
    """Of ten inputs the original knows 8, the subject 7, and they choose the same class for 9."""
    targets = np.arange(10) % 3
    original = np.eye(3)[targets].copy()
    original[[0, 1]] = [0, 0, 9]  # wrong
    subject = original.copy()
    subject[2] = [5, 0, 0]  # wrong too
    told = quality(subject, original, samples(10, targets))
    assert (told.metric, told.unit, told.n) == ("top-1", "pt", 10)
    assert (told.original, told.subject) == (80.0, 70.0)
    assert told.difference == pytest.approx(-10.0)
    # Agresti and Min (2005): half a case more in each cell; b = 0.5 better, c = 1.5 worse, n = 12
    margin = 1.959964 * math.sqrt(2 - 1 / 12) / 12
    assert (told.low, told.high) == pytest.approx((-100 / 12 - 100 * margin, -100 / 12 + 100 * margin))
    assert told.agreement == pytest.approx(0.9)


def test_quality_without_labels_is_the_probability_kept() -> None:
    """Two inputs: nothing moved, and 0.3 of the probability moved from the first class to the second."""
    original = np.log([[0.8, 0.2], [0.6, 0.4]])
    subject = np.log([[0.8, 0.2], [0.3, 0.7]])
    told = quality(subject, original, samples(2))
    assert told.metric == "probability kept"
    assert (told.original, told.subject) == pytest.approx((100.0, 85.0))
    assert told.difference == pytest.approx(-15.0)
    assert told.divergence == pytest.approx(15.0)
    assert told.agreement == 0.5


@pytest.mark.parametrize("shape", [(4, 1), (4, 2, 3, 3)])
def test_other_outputs_keep_their_value(shape: tuple[int, ...]) -> None:
    """A regression and a map: an output that is a tenth too large is a tenth wrong, and agrees about no class."""
    original = np.random.default_rng(0).normal(5, 1, shape)
    told = quality(1.1 * original, original, samples(4))
    assert told.metric == "output kept"
    assert told.subject == pytest.approx(90.0)
    assert told.agreement is None


def test_an_output_that_is_no_number_is_all_wrong() -> None:
    original = np.log([[0.8, 0.2], [0.6, 0.4]])
    subject = original.copy()
    subject[1, 0] = np.nan
    assert quality(subject, original, samples(2)).subject == pytest.approx(50.0)


def test_one_input_judges_nothing() -> None:
    with pytest.raises(BadInput, match="two or more"):
        quality(np.ones((1, 2)), np.ones((1, 2)), samples(1))
