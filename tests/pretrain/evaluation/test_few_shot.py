"""Few-shot: mean and spread of the episodes."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.few_shot import few_shot
from shoestring.pretrain.evaluation.nearest import nearest_scores


def test_mean_and_spread_are_those_of_the_episodes(blobs) -> None:
    found = few_shot(*blobs, ways=3, shots=5, count=6)
    assert found.scores.shape == (6,)
    assert found.mean == pytest.approx(found.scores.mean()) and found.mean > 90
    assert found.spread == pytest.approx(np.std(found.scores, ddof=1))


def test_other_features_are_judged_on_the_same_episodes(blobs) -> None:
    one, other = (few_shot(*blobs, ways=2, shots=3, count=4, probe=nearest_scores) for _ in range(2))
    assert np.array_equal(one.scores, other.scores)


def test_too_few_classes_are_refused(blobs) -> None:
    with pytest.raises(BadInput, match="4 classes have more than 10 items"):
        few_shot(*blobs, ways=5, shots=10)
