"""The error of features whose symmetry is known."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.equivariance import equivariance_error, invariance_error


def radii(clouds: np.ndarray) -> np.ndarray:
    return np.sort(np.linalg.norm(clouds, axis=2), axis=1)


def test_radii_are_invariant_and_coordinates_are_not(shapes) -> None:
    clouds = shapes[0]
    assert invariance_error(radii, clouds).max() < 1e-5
    found = invariance_error(lambda of: of[:, 0], clouds)
    assert found.shape == (4, 36)
    assert found.mean() > 0.5


def test_a_large_constant_hides_no_change(shapes) -> None:
    clouds = shapes[0]
    plain = invariance_error(lambda of: of[:, 0], clouds)
    np.testing.assert_allclose(invariance_error(lambda of: of[:, 0].astype(np.float64) + 1e6, clouds), plain, rtol=1e-3)


def test_points_are_equivariant_and_their_absolute_values_are_not(shapes) -> None:
    clouds = shapes[0]
    assert equivariance_error(lambda of: of[:, :5], clouds).max() < 1e-5
    assert equivariance_error(lambda of: np.abs(of[:, :5]), clouds).mean() > 0.3


@pytest.mark.parametrize("up", [0, 1, 2])
def test_turns_are_about_the_axis_that_is_up(shapes, up: int) -> None:
    axis = np.eye(3)[[up]]
    vertical = lambda of: np.broadcast_to(axis, (len(of), 1, 3))  # noqa: E731 - no rotation about it turns it
    assert equivariance_error(vertical, shapes[0], kind="z", up=up).max() < 1e-6
    assert equivariance_error(vertical, shapes[0], kind="z", up=(up + 1) % 3).mean() > 0.3


def test_the_error_is_the_one_of_the_formula(shapes) -> None:
    """Features that ignore the cloud's pose: ||f - R f|| / ||f||, which is the chord of the turn of a vector."""
    clouds = shapes[0]
    up = np.broadcast_to([0.0, 1.0, 0.0], (36, 3))
    found = equivariance_error(lambda of: up, clouds, turns=300)
    np.testing.assert_allclose((found**2).mean(), 2, atol=0.15)  # the mean of |e - R e|^2 over all rotations
    assert found.max() <= 2 + 1e-9


def test_features_that_fit_no_formula_are_refused(shapes) -> None:
    with pytest.raises(BadInput, match="last axis must be 3"):
        equivariance_error(radii, shapes[0])
    with pytest.raises(BadInput, match="two clouds"):
        invariance_error(radii, shapes[0][:1])
