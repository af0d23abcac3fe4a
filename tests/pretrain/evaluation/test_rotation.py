"""Clouds turn about their middle, and the protocol tells which features know the vertical."""

import numpy as np

from shoestring.pretrain.evaluation.nearest import nearest_scores
from shoestring.pretrain.evaluation.rotation import rotation_scores, turned
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.splits import stratified_folds


def test_clouds_turn_about_their_middle(shapes) -> None:
    clouds = shapes[0] + np.float32(3)
    found = turned(clouds, "SO3", 0)
    np.testing.assert_allclose(found.mean(1), clouds.mean(1), atol=1e-4)
    assert not np.allclose(found, clouds, atol=0.1)


def test_features_that_know_the_vertical_fail_when_it_is_gone(shapes) -> None:
    clouds, labels = shapes
    splits = stratified_folds(labels, folds=3, seeds=1)

    def heights(of: np.ndarray) -> np.ndarray:
        return np.ptp(of, axis=1)[:, [1]].repeat(2, axis=1) * [1, 0] + [0, 1]

    upright = rotation_scores(heights, nearest_scores, clouds, labels, splits)
    invariant = rotation_scores(lambda of: shape_features(of, invariant=True), nearest_scores, clouds, labels, splits)
    assert list(upright) == ["z/z", "z/SO3", "SO3/SO3"]
    assert upright["z/z"].mean() > upright["z/SO3"].mean() + 10
    assert min(scores.mean() for scores in invariant.values()) > 95
    assert all(scores.shape == (3,) for scores in upright.values())
