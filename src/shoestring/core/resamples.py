"""Intervals for scores of repeated splits of the same data: k-fold cross-validation, several times over.

The training sets of two splits share most of their items, so their scores are not independent and the plain interval
of their mean is too short. Nadeau and Bengio (2003, "Inference for the generalization error", Machine Learning 52,
equation 9) widen the variance of the mean of J scores from 1/J to 1/J + n_test/n_train, which keeps the error of the
test near its level.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from shoestring.core.errors import BadInput
from shoestring.core.statistics import Interval, student


def resampled_interval(scores: ArrayLike, ratio: float) -> Interval:
    """Mean of `scores` [J], one a split, with its 95 % interval. `ratio`: items tested / items trained on in a split
    (1 / (k - 1) for k folds), 0 for splits that share nothing. Raises BadInput on fewer than 2 scores, on scores that
    are not finite and on a negative ratio."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise BadInput(f"resamples: {scores.shape} scores tell no spread; give two splits or more, one score each")
    if not np.isfinite(scores).all() or not 0 <= ratio < math.inf:
        raise BadInput(f"resamples: scores must be finite and the ratio {ratio} not negative; leave broken splits out")
    count, value = len(scores), float(scores.mean())
    margin = student(count - 1) * float(scores.std(ddof=1)) * math.sqrt(1 / count + ratio)
    return Interval(value, value - margin, value + margin, count)


def resampled_difference(x: ArrayLike, y: ArrayLike, ratio: float) -> Interval:
    """mean(x) - mean(y) of scores taken on the *same* splits [J], **x minus y**: what makes a split hard cancels.
    Raises BadInput like `resampled_interval`, and on different lengths."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise BadInput(f"resamples: scores {x.shape} and {y.shape} are not paired; give one of each for every split")
    return resampled_interval(x - y, ratio)
