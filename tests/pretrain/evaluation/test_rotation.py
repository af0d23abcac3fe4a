"""Rotations are rotations, uniform ones, and the protocol tells which features know the vertical."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.nearest import nearest_scores
from shoestring.pretrain.evaluation.rotation import rotation_scores, rotations, turned
from shoestring.pretrain.evaluation.shape_features import shape_features
from shoestring.pretrain.evaluation.splits import stratified_folds


@pytest.mark.parametrize("kind", ["z", "SO3"])
def test_they_are_rotations(kind: str) -> None:
    found = rotations(kind, 200, np.random.default_rng(0))
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (200, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(found), 1)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_z_leaves_the_vertical(up: int) -> None:
    found = rotations("z", 50, np.random.default_rng(0), up)
    np.testing.assert_allclose(found[:, up], np.broadcast_to(np.eye(3)[up], (50, 3)), atol=1e-12)
    assert np.ptp(found[:, (up + 1) % 3, (up + 2) % 3]) > 1.5


def test_so3_is_uniform() -> None:
    """The trace of a uniform rotation has mean 0 and variance 1; a fixed vector goes anywhere on the sphere."""
    found = rotations("SO3", 20_000, np.random.default_rng(0))
    trace = np.trace(found, axis1=1, axis2=2)
    assert abs(trace.mean()) < 0.03 and abs(trace.var() - 1) < 0.03
    assert np.abs(found[:, :, 1].mean(0)).max() < 0.02
    np.testing.assert_allclose((found[:, :, 1] ** 2).mean(0), 1 / 3, atol=0.01)


def test_clouds_turn_about_their_middle(shapes) -> None:
    clouds = shapes[0] + np.float32(3)
    found = turned(clouds, "SO3", 0)
    np.testing.assert_allclose(found.mean(1), clouds.mean(1), atol=1e-4)
    assert not np.allclose(found, clouds, atol=0.1)


def test_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="write z or SO3"):
        rotations("x", 1, np.random.default_rng(0))


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
