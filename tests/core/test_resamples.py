"""Intervals of repeated cross-validation, against SciPy's Student t and a simulation with known truth."""

import numpy as np
import pytest
from scipy import stats

from shoestring.core.errors import BadInput
from shoestring.core.resamples import resampled_difference, resampled_interval


def test_without_shared_items_it_is_the_interval_of_student() -> None:
    scores = np.array([71.0, 74.5, 69.2, 73.3, 72.8, 70.1])
    low, high = stats.t.interval(0.95, 5, scores.mean(), stats.sem(scores))
    found = resampled_interval(scores, 0.0)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert (found.value, found.n) == (pytest.approx(scores.mean()), 6)


def test_shared_training_items_widen_it_by_equation_9() -> None:
    scores = np.random.default_rng(0).normal(70, 3, 15)
    plain, wide = resampled_interval(scores, 0.0), resampled_interval(scores, 0.25)
    assert wide.half_width / plain.half_width == pytest.approx(np.sqrt((1 / 15 + 1 / 4) / (1 / 15)))


def test_what_makes_a_split_hard_cancels_in_a_difference() -> None:
    random = np.random.default_rng(1)
    hard = random.normal(0, 8, 15)
    better, worse = 72 + hard + random.normal(0, 0.1, 15), 70 + hard + random.normal(0, 0.1, 15)
    found = resampled_difference(better, worse, 0.25)
    assert found.low > 1.5 and found.high < 2.5
    assert resampled_interval(better, 0.25).half_width > 2


@pytest.mark.parametrize("scores", [[1.0], [[1.0, 2.0]], [1.0, float("nan")]])
def test_scores_that_tell_nothing_are_refused(scores: list) -> None:
    with pytest.raises(BadInput, match="resamples"):
        resampled_interval(scores, 0.25)
    with pytest.raises(BadInput, match="not paired"):
        resampled_difference([1.0, 2.0, 3.0], [1.0, 2.0], 0.25)
