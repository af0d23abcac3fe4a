"""The forest of hand-made features."""

import numpy as np

from shoestring.pretrain.evaluation.random_forest import forest_scores
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.splits import stratified_folds


def test_it_tells_simple_shapes_apart_and_repeats_itself(shapes) -> None:
    clouds, labels = shapes
    features, splits = shape_features(clouds), stratified_folds(labels, folds=3, seeds=1)
    found = forest_scores(features, labels, splits, trees=10)
    assert found.mean() > 95
    assert np.array_equal(found, forest_scores(features, labels, splits, trees=10))
