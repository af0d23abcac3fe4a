"""From class scores to labels, and how sure they are."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.deploy.prediction import Prediction, best, confident, probabilities


def test_the_likeliest_first_with_labels_or_indices() -> None:
    scores = np.log(np.array([0.2, 0.5, 0.3]))
    found = best(scores, ("cat", "dog"), 2, "x.shoe")
    assert [(item.label, item.index) for item in found] == [("dog", 1), ("2", 2)]
    assert [item.probability for item in found] == pytest.approx([0.5, 0.3])
    assert best(np.array([1e4, 0.0]), (), 1, "x.shoe") == [Prediction("0", 0, 1.0)]


def test_what_is_no_list_of_scores_is_refused() -> None:
    with pytest.raises(BadInput, match=r"x\.shoe: its output \(2, 2\) is no list"):
        best(np.zeros((2, 2)), (), 1, "x.shoe")
    with pytest.raises(BadInput, match="not finite"):
        best(np.array([np.inf, 0.0]), (), 1, "x.shoe")


def test_sure_is_what_reaches_the_threshold_at_its_temperature() -> None:
    scores = np.log(np.array([0.8, 0.1, 0.1]))
    assert confident(scores, {"temperature": 1.0, "threshold": 0.79})
    assert not confident(scores, {"temperature": 1.0, "threshold": 0.81})
    # At temperature 2 the root of each counts: 0.894 of 0.894 + 2 * 0.316
    assert float(probabilities(scores / 2).max()) == pytest.approx(0.5858, abs=1e-3)
    assert not confident(scores, {"temperature": 2.0, "threshold": 0.6})
    assert confident(np.array([0.0, 3e38], np.float32), {"temperature": 0.001, "threshold": 1.0})  # in float64
    assert not confident(scores, {})
    assert not confident(np.array([np.nan, 1.0]), {"temperature": 1.0, "threshold": 0.0})
    assert not confident(np.zeros((2, 2)), {"temperature": 1.0, "threshold": 0.0})
