"""Rotations are rotations, and uniform ones."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.geometry.rotations import rotations


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


def test_the_image_of_an_axis_and_the_angle_of_so3() -> None:
    """The image of an axis is uniform on the sphere (each coordinate uniform: Archimedes), the angle has the density
    (1 - cos a) / pi."""
    turns = rotations("SO3", 4000, np.random.default_rng(0))
    for axis in range(3):
        assert (np.abs(np.histogram(turns[:, axis, 0], 8, (-1, 1))[0] - 500) < 100).all()
    angles = np.arccos(((np.trace(turns, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))
    assert angles.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.03)


def test_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="write z or SO3"):
        rotations("x", 1, np.random.default_rng(0))
