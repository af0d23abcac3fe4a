"""The forest of hand-made features."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.random_forest import forest_head, forest_scores
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.splits import stratified_folds


def test_it_tells_simple_shapes_apart_and_repeats_itself(shapes) -> None:
    clouds, labels = shapes
    features, splits = shape_features(clouds), stratified_folds(labels, folds=3, seeds=1)
    found = forest_scores(features, labels, splits, trees=10)
    assert found.mean() > 95
    assert np.array_equal(found, forest_scores(features, labels, splits, trees=10))


def test_a_head_of_points_knows_of_classes_it_never_saw() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400) * 3
    features = labels[:, None] + random.standard_normal((400, 2)) * 0.1
    found = forest_head(features, labels, 5, seed=1)(features)
    assert found.shape == (400, 5)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found.argmax(1) == labels).all()
    assert not found[:, [1, 2, 4]].any()
    with pytest.raises(BadInput, match="no point of the clouds to train on has a label"):
        forest_head(features[:0], labels[:0], 5)
