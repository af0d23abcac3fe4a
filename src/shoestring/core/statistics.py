"""The statistics of the receipt: intervals that know what they do not know, and what may be said from them.

Samples of a timing run are neither independent (the machine's noise drifts) nor unpaired (each round holds one of
every subject). So a ratio is taken within each round, where the drift cancels, and its median over the run; intervals
come from the moving-block bootstrap (Künsch 1989, Annals of Statistics 17(3)), which draws whole blocks of rounds.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shoestring.core.errors import BadInput
from shoestring.core.receipt import FAILS, HOLDS, NOISY

MIN_ROUNDS = 8
# A block is a tenth of the run. Simulated (AR(1) noise, 500 runs), 95 % intervals then cover the truth in 0.94 of runs
# whose noise forgets itself within a sixtieth of the run, in 0.90 at a twentieth, and in too few beyond.
BLOCKS = 10
# Two loads of the same file differ by a few tenths of a per cent for as long as they live, because of where their
# memory lies (Mytkowicz et al. 2009, "Producing wrong data without doing anything obviously wrong"). No number of
# rounds can tell that from a real difference, so no ratio is claimed more finely than this.
PLACEMENT = 0.005
GAIN_MARGIN = 0.01
TOLERANCE = 0.02
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """`value` with its 95 % interval [`low`, `high`] from `n` samples. `halves`: the same interval from the first and
    from the second half of the run alone; empty where the samples have no order in time."""

    value: float
    low: float
    high: float
    n: int
    halves: tuple[tuple[float, float], ...] = ()

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def steady(self) -> bool:
        """Whether the two halves of the run agree: their intervals overlap. On an unchanging machine they fail to
        in about one run of 180 (a distance of 1.96 * 2 against a standard deviation of sqrt(2))."""
        return max(low for low, _ in self.halves) <= min(high for _, high in self.halves) if self.halves else True


def ratio_interval(a: ArrayLike, b: ArrayLike, *, placement: float = PLACEMENT, seed: int = 0) -> Interval:
    """Median over rounds of b / a: **b is the numerator**, so with times it says how many times faster a is than b.

    What slows a round slows both: for a network against itself in ONNX Runtime, under a load of 7 on 2 cores, this was
    known to half the width of median(b) / median(a) in CPU time and to a sixth in wall time. With a and b exchanged it
    is the exact inverse; but a product of such ratios is only nearly the ratio of its ends.

    `a`, `b`: [rounds] positive, same unit, sample i of both taken in round i, in order of time. `placement`: relative
    error that more rounds cannot remove, added on both sides. Raises BadInput on fewer than 8 rounds, on different
    lengths, and on values that are not positive and finite.
    """
    if np.shape(a) != np.shape(b):
        raise BadInput(
            f"statistics: {np.shape(a)} and {np.shape(b)} samples are not paired; give one of each per round"
        )
    return _interval(np.log(_samples(b)) - np.log(_samples(a)), math.log1p(placement), seed)


def median_interval(samples: ArrayLike, *, seed: int = 0) -> Interval:
    """Median of `samples` [rounds], positive, in order of time (for an even number, the geometric mean of the middle
    two). Raises BadInput like `ratio_interval`."""
    return _interval(np.log(_samples(samples)), 0.0, seed)


def mean_difference_interval(x: ArrayLike, y: ArrayLike) -> Interval:
    """mean(x) - mean(y) of paired scores: **x minus y**, the subject first, in the unit of the scores.

    `x`, `y`: [n] scores of the same inputs. Scores that are all 0 or 1 (top-1) take the interval of Agresti and Min
    (2005, Statistics in Medicine 24, section 3: half a case added to each cell), which stays honest when hardly any
    answer changed; ten equal answers do not prove a difference of zero. Others take Student's t interval of the mean
    difference. Raises BadInput on fewer than 2 inputs, different lengths or scores that are not finite.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise BadInput(
            f"statistics: scores {x.shape} and {y.shape} are not paired; give two or more inputs, one score of each"
        )
    if not np.isfinite([x, y]).all():
        raise BadInput("statistics: a score is not finite; leave that input out of both")
    n, differences = len(x), x - y
    value = float(differences.mean())
    if np.isin([x, y], (0, 1)).all():
        better, worse = (differences > 0).sum() + 0.5, (differences < 0).sum() + 0.5
        centre = (better - worse) / (n + 2)
        margin = _Z * math.sqrt(better + worse - (better - worse) ** 2 / (n + 2)) / (n + 2)
        return Interval(value, float(max(centre - margin, -1)), float(min(centre + margin, 1)), n)
    margin = student(n - 1) * float(differences.std(ddof=1)) / math.sqrt(n)
    return Interval(value, value - margin, value + margin, n)


def judge(interval: Interval, op: str, limit: float, *, tolerance: float | None = None) -> str:
    """The verdict on `value <= limit` or `value >= limit` (`op`, as in `Limit`): "holds", "fails" or "too noisy".

    The interval decides when it lies on one side of the limit. When it straddles the limit and its half width is within
    `tolerance` (in the interval's unit; 2 % of the limit unless given) the value is known as well as was asked, and
    decides itself; pass `math.inf` where more samples cannot be had. Otherwise, and whenever the two halves of the run
    disagree, it is too noisy to say.
    """
    if op not in ("<=", ">="):
        raise BadInput(f"statistics: cannot judge {op!r}; write <= or >=")
    if not interval.steady:
        return NOISY
    if tolerance is None:
        tolerance = TOLERANCE * abs(limit)
    if interval.low < limit < interval.high and interval.half_width > tolerance:
        return NOISY
    inside = interval.value <= limit if op == "<=" else interval.value >= limit
    return HOLDS if inside else FAILS


def gain(ratio: Interval) -> bool:
    """Whether a ratio from `ratio_interval` claims a speed-up.

    A 95 % interval lies above 1.00 by luck in one run of 40, so that alone claims a gain once among 40 comparisons of a
    thing with itself. Three things are asked instead: low > 1.01, since nobody wants a file for less; halves of the run
    that agree; and that *each half alone* says faster. Both halves say so by luck in 0.025 ** 2 of runs, so 40 such
    comparisons make one false claim with a probability below 3 %, whatever the noise. A true gain that the whole run
    shows by 2.8 standard errors (instead of 2) is still claimed.
    """
    return ratio.low > 1 + GAIN_MARGIN and ratio.steady and all(low > 1 for low, _ in ratio.halves)


def student(freedom: float) -> float:
    """97.5 % quantile of Student's t, within 1 % from 3 degrees of freedom (Abramowitz and Stegun 26.7.5)."""
    z = _Z
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _interval(logarithms: np.ndarray, widen: float, seed: int) -> Interval:
    """exp(median) of [rounds] for the whole run and for each half; `widen` is added on both sides of the logarithm."""
    middle = len(logarithms) // 2
    value, low, high = _bounds(logarithms, widen, seed)
    halves = tuple(_bounds(half, widen, seed)[1:] for half in (logarithms[:middle], logarithms[middle:]))
    return Interval(value, low, high, len(logarithms), halves)


def _bounds(logarithms: np.ndarray, widen: float, seed: int) -> tuple[float, float, float]:
    """Estimate and percentile interval of the bootstrap, stretched about the estimate for what blocks leave out.

    Three factors: Student's t and n / (n - 1) for as few independent pieces as there are blocks, and the correlation
    that reaches beyond a block, extrapolated from blocks of half the length (the lugsail of Vats and Flegal 2022,
    Biometrika 109(3), with r = 2 and c = 1/2).
    """
    length = max(1, len(logarithms) // BLOCKS)
    blocks = len(logarithms) / length
    estimate = float(np.median(logarithms))
    bounds, shorter = (_bootstrap(logarithms, each, seed) for each in (length, max(1, length // 2)))
    width, shorter_width = np.ptp(bounds), np.ptp(shorter)
    beyond = max(1.0, 2 - (shorter_width / width) ** 2) if width else 1.0
    stretch = student(blocks - 1) / _Z * math.sqrt(blocks / (blocks - 1) * beyond)
    low, high = estimate + stretch * (bounds - estimate)
    # The estimate itself is never left out: with ties the bootstrap can be lopsided.
    low, high = min(low, estimate) - widen, max(high, estimate) + widen
    return math.exp(estimate), math.exp(low), math.exp(high)


def _bootstrap(series: np.ndarray, length: int, seed: int, resamples: int = 1000) -> np.ndarray:
    """2.5 % and 97.5 % quantiles of the median of [n] when blocks of `length` are drawn."""
    n = len(series)
    starts = np.random.default_rng(seed).integers(0, n - length + 1, size=(resamples, -(-n // length)))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(resamples, -1)[:, :n]
    return np.quantile(_medians(series[drawn]), (0.025, 0.975))


def _medians(rows: np.ndarray) -> np.ndarray:
    """Median of each row; a vectorised sort is twice as fast as numpy's selection on rows this short."""
    ordered, n = np.sort(rows, axis=1), rows.shape[1]
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2


def _samples(samples: ArrayLike) -> np.ndarray:
    array = np.asarray(samples, np.float64)
    if array.ndim != 1 or len(array) < MIN_ROUNDS:
        raise BadInput(f"statistics: {array.shape} samples say nothing about noise; give {MIN_ROUNDS} or more rounds")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise BadInput("statistics: a sample is not positive and finite; time more calls per sample")
    return array
