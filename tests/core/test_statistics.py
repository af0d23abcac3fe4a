"""The intervals against scipy, against simulated runs whose ratio is known, and against exact enumeration."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from shoestring.core import statistics
from shoestring.core.errors import BadInput
from shoestring.core.statistics import Interval, gain, judge, mean_difference_interval, median_interval, ratio_interval


def drifting(random: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    """AR(1) noise of unit variance."""
    steps = random.standard_normal(n + 300) * math.sqrt(1 - correlation**2)
    return scipy.signal.lfilter([1], [1, -correlation], steps)[300:]


def run(
    random: np.random.Generator, n: int, ratio: float, own: float, common: float = 0.97
) -> tuple[np.ndarray, np.ndarray]:
    """Times of two subjects: 10 % of drift they share, 5 % of correlated noise and of spikes of their own."""
    shared = 0.1 * drifting(random, n, common)
    a, b = (np.exp(shared + 0.05 * drifting(random, n, own) + 0.05 * random.exponential(size=n)) for _ in range(2))
    return a, ratio * b


@pytest.mark.parametrize("own", [0.0, 0.5, 0.9])
def test_ratio_covers_the_truth_under_drifting_noise(own: float) -> None:
    random = np.random.default_rng(int(own * 10))
    intervals = [ratio_interval(*run(random, 800, 1.25, own), placement=0.0) for _ in range(100)]
    # Nominal 0.95; 0.90 is 2.3 standard errors of a count of 100 below it.
    assert np.mean([1.25 in interval for interval in intervals]) >= 0.90
    assert np.median([interval.half_width for interval in intervals]) < 0.05


def test_ignoring_the_drift_would_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BLOCKS", 800)  # blocks of one round: samples taken as independent
    random = np.random.default_rng(9)
    covered = [1.25 in ratio_interval(*run(random, 800, 1.25, 0.9), placement=0.0) for _ in range(50)]
    assert np.mean(covered) < 0.8


def test_what_slows_a_round_slows_both() -> None:
    random = np.random.default_rng(3)
    a, b = run(random, 600, 1.3, 0.0)
    slow = np.where(drifting(random, 600, 0.95) > 0.5, 3.0, 1.0)  # another process takes two thirds, for a while
    undisturbed, disturbed = ratio_interval(a, b), ratio_interval(slow * a, slow * b)
    assert (disturbed.low, disturbed.high) == pytest.approx((undisturbed.low, undisturbed.high))
    unpaired = ratio_interval(slow * a, np.roll(slow * b, 300))
    assert unpaired.half_width > 4 * disturbed.half_width


def percentile_width(samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray]) -> float:
    found = scipy.stats.bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=500,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return found.high - found.low


@pytest.mark.parametrize("n", [100, 500])
def test_independent_samples_agree_with_scipy(n: int) -> None:
    random = np.random.default_rng(n)
    widths = []
    for a, b in random.gamma(9, size=(30, 2, n)):
        ours = ratio_interval(a, b, placement=0.0)
        assert ours.value == pytest.approx(np.median(b / a), rel=0.01)
        theirs = percentile_width((a, b), lambda a, b, axis: np.median(np.log(b / a), axis=axis))
        widths.append((math.log(ours.high / ours.low), theirs))
    # Ours pays for not knowing that they are independent: Student's t with 9 degrees of freedom is 15 % above the
    # normal and n / (n - 1) another 5 %; that blocks lose a tenth of the variance pays some of it back.
    ours, theirs = np.mean(widths, axis=0)
    assert 1.0 < ours / theirs < 1.25


def test_median_agrees_with_the_order_statistics() -> None:
    """The exact interval of a median of independent samples is a pair of them, by the binomial distribution."""
    widths = []
    for samples in np.random.default_rng(5).gamma(4, size=(30, 301)):
        interval = median_interval(samples)
        assert interval.value == pytest.approx(np.median(samples), rel=1e-14)
        low, high = (np.sort(samples)[int(scipy.stats.binom.ppf(q, 301, 0.5))] for q in (0.025, 0.975))
        widths.append((2 * interval.half_width, high - low))
    ours, exact = np.mean(widths, axis=0)
    assert 1.0 < ours / exact < 1.25


def test_placement_is_added_on_both_sides_and_never_removed() -> None:
    same = np.full(50, 2.0)
    interval = ratio_interval(same, same)
    assert (interval.low, interval.high) == (pytest.approx(1 / 1.005), pytest.approx(1.005))
    assert interval.value == 1.0


def test_exchanging_inverts() -> None:
    a, b = np.random.default_rng(8).gamma(9, size=(2, 64))
    there, back = ratio_interval(a, b), ratio_interval(b, a)
    assert there.value == pytest.approx(1 / back.value)
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low), rel=0.02)


def test_numerator_is_the_second() -> None:
    interval = ratio_interval(np.full(20, 2.0), np.full(20, 6.0))
    assert interval.value == pytest.approx(3.0)
    assert 3.0 in interval
    assert gain(interval)
    assert not gain(ratio_interval(np.full(20, 6.0), np.full(20, 2.0)))


def test_same_seed_same_interval() -> None:
    a, b = np.random.default_rng(1).gamma(9, size=(2, 80))
    assert ratio_interval(a, b, seed=4) == ratio_interval(a, b, seed=4)
    assert ratio_interval(a, b, seed=4) != ratio_interval(a, b, seed=5)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones(7), np.ones(7), "8 or more"),
        (np.ones(20), np.ones(19), "paired"),
        (np.ones(20), np.zeros(20), "positive"),
        (np.ones(20), np.full(20, np.nan), "finite"),
        (np.ones((20, 2)), np.ones((20, 2)), "8 or more"),
    ],
)
def test_bad_samples_are_refused(a: np.ndarray, b: np.ndarray, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ratio_interval(a, b)


@pytest.mark.parametrize("freedom", [3, 5, 9, 30, 1000])
def test_student_agrees_with_scipy(freedom: int) -> None:
    assert statistics.student(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=0.01)


def test_scores_agree_with_scipy() -> None:
    random = np.random.default_rng(2)
    y = random.uniform(size=60)
    x = y + random.normal(0.02, 0.1, size=60)
    theirs = scipy.stats.ttest_rel(x, y).confidence_interval(0.95)
    ours = mean_difference_interval(x, y)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, rel=1e-3), pytest.approx(theirs.high, rel=1e-3))
    assert ours.value == pytest.approx((x - y).mean())


@pytest.mark.parametrize("n", [20, 60])
@pytest.mark.parametrize(("better", "worse"), [(0.01, 0.01), (0.02, 0.05), (0.1, 0.2)])
def test_right_or_wrong_scores_cover_exactly(n: int, better: float, worse: float) -> None:
    """Coverage summed over every outcome of n trials, weighed by its multinomial probability."""
    covered = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            chance = scipy.stats.multinomial.pmf(
                [gained, lost, n - gained - lost], n, [better, worse, 1 - better - worse]
            )
            if chance > 1e-6:
                x = np.repeat([1, 0, 1], [gained, lost, n - gained - lost])
                y = np.repeat([0, 1, 1], [gained, lost, n - gained - lost])
                covered += chance * (better - worse in mean_difference_interval(x, y))
    assert covered >= 0.94


def test_equal_answers_do_not_prove_equality() -> None:
    interval = mean_difference_interval(np.ones(50), np.ones(50))
    assert interval.value == 0
    assert interval.high > 0.03
    with pytest.raises(BadInput, match="paired"):
        mean_difference_interval(np.ones(5), np.ones(6))
    with pytest.raises(BadInput, match="finite"):
        mean_difference_interval(np.ones(2), np.array([1, np.inf]))


AGREE, DISAGREE = ((0.9, 1.1), (1.0, 1.2)), ((0.9, 0.95), (1.0, 1.2))


@pytest.mark.parametrize(
    ("interval", "op", "limit", "verdict"),
    [
        (Interval(0.50, 0.48, 0.52, 99), "<=", 0.6, "holds"),
        (Interval(0.50, 0.48, 0.52, 99), ">=", 0.6, "fails"),
        (Interval(0.70, 0.68, 0.72, 99), "<=", 0.6, "fails"),
        (Interval(0.59, 0.50, 0.70, 99), "<=", 0.6, "too noisy"),
        (Interval(0.599, 0.59, 0.61, 99), "<=", 0.6, "holds"),  # as exact as asked: the value decides
        (Interval(0.601, 0.59, 0.61, 99), "<=", 0.6, "fails"),
        (Interval(1.0, 0.98, 1.02, 99, AGREE), ">=", 0.5, "holds"),
        (Interval(1.0, 0.98, 1.02, 99, DISAGREE), ">=", 0.5, "too noisy"),
    ],
)
def test_judge(interval: Interval, op: str, limit: float, verdict: str) -> None:
    assert judge(interval, op, limit) == verdict


def test_judge_takes_the_value_when_more_cannot_be_had() -> None:
    loss = Interval(-0.4, -1.6, 0.8, 60)
    assert judge(loss, ">=", -1.0) == "too noisy"
    assert judge(loss, ">=", -1.0, tolerance=math.inf) == "holds"
    with pytest.raises(BadInput, match="<= or >="):
        judge(loss, "<", 1.0)


@pytest.mark.parametrize(
    ("interval", "claimed"),
    [
        (Interval(1.50, 1.40, 1.60, 99, ((1.38, 1.6), (1.4, 1.62))), True),
        (Interval(1.02, 1.005, 1.04, 99, ((1.001, 1.04), (1.001, 1.04))), False),  # too little to want
        (Interval(1.20, 1.02, 1.40, 99, ((0.99, 1.4), (1.02, 1.42))), False),  # half of the run does not say so
        (Interval(1.50, 1.40, 1.60, 99, ((1.1, 1.3), (1.4, 1.62))), False),  # the machine changed
    ],
)
def test_gain(interval: Interval, claimed: bool) -> None:
    assert gain(interval) is claimed


def test_equal_subjects_claim_nothing_and_faster_ones_do() -> None:
    random = np.random.default_rng(11)
    claims = [gain(ratio_interval(*run(random, 200, 1.0, 0.5))) for _ in range(120)]
    assert sum(claims) <= 1  # 120 times 0.025 ** 2 is a fourteenth of a claim
    faster = [gain(ratio_interval(*run(random, 200, 1.1, 0.5))) for _ in range(30)]
    assert np.mean(faster) > 0.8
