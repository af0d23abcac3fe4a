"""Augmentation against what it says it does: distances that turns keep, bounds, shares."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from shoestring.points.augment import Augmentation, about, augmented, turn

NONE = Augmentation(turn=False, tilt=0, stretch=0, shift=0, jitter=0, drop=0)
POINTS = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)


def seen(how: Augmentation, up: str | None = "y", seed: int = 1) -> np.ndarray:
    return augmented(POINTS, up, how, np.random.default_rng(seed))


def matrix_of(points: np.ndarray) -> np.ndarray:
    """The linear map that made these of POINTS."""
    return np.linalg.lstsq(POINTS.astype(float), points.astype(float), rcond=None)[0].T


def test_nothing_and_everything() -> None:
    np.testing.assert_allclose(seen(NONE), POINTS, atol=1e-6)
    first, again, other = seen(Augmentation()), seen(Augmentation()), seen(Augmentation(), seed=2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert (first.dtype, first.shape) == (np.float32, POINTS.shape)


@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("z", 2)])
def test_turns_keep_what_points_up(up: str, axis: int) -> None:
    matrix = matrix_of(seen(replace(NONE, turn=True), up))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(matrix[axis], np.eye(3)[axis], atol=1e-5)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(matrix, np.eye(3), atol=0.01)


def test_without_an_up_every_turn() -> None:
    matrix = matrix_of(seen(replace(NONE, turn=True), None))
    assert not np.allclose(np.abs(matrix).max(axis=1), 1, atol=0.01)


def test_turn_goes_the_way_of_the_right_hand() -> None:
    np.testing.assert_allclose(turn(1, np.pi / 2) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(about(np.zeros(3), 1.0), np.eye(3))


def test_tilt_mirror_stretch_and_shift() -> None:
    tilted = matrix_of(seen(replace(NONE, tilt=0.06)))
    assert 0 < np.arccos((np.trace(tilted) - 1) / 2) < 0.3
    signs = {np.sign(np.linalg.det(matrix_of(seen(replace(NONE, mirror=True), seed=seed)))) for seed in range(8)}
    assert signs == {-1, 1}
    stretched = [matrix_of(seen(replace(NONE, stretch=0.25), seed=seed)) for seed in range(50)]
    diagonals = np.array([np.diag(matrix) for matrix in stretched])
    np.testing.assert_allclose(stretched, [np.diag(row) for row in diagonals], atol=1e-5)
    assert 0.8 - 1e-5 <= diagonals.min() < 0.85
    assert 1.2 < diagonals.max() <= 1.25 + 1e-5
    moves = np.array([(seen(replace(NONE, shift=0.1), seed=seed) - POINTS)[0] for seed in range(50)])
    assert 0.08 < np.abs(moves).max() <= 0.1 + 1e-6


def test_jitter_and_drop() -> None:
    noise = seen(replace(NONE, jitter=0.01)) - POINTS
    assert noise.std() == pytest.approx(0.01, rel=0.1)
    assert np.abs(noise).max() <= 0.05 + 1e-6
    shares = []
    for seed in range(100):
        found = seen(replace(NONE, drop=0.4), seed=seed)
        rows = {tuple(row) for row in POINTS.tolist()}
        assert {tuple(row) for row in found.tolist()} <= rows
        shares.append(1 - len(np.unique(found, axis=0)) / len(POINTS))
    assert 0.3 < max(shares) < 0.5
    assert np.mean(shares) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("field", [field.name for field in fields(Augmentation)])
def test_one_point(field: str) -> None:
    how = replace(NONE, **{field: 0.9 if field not in ("turn", "mirror") else True})
    found: Callable[[int], np.ndarray] = lambda seed: augmented(POINTS[:1], None, how, np.random.default_rng(seed))  # noqa: E731
    assert all(np.isfinite(found(seed)).all() for seed in range(20))
