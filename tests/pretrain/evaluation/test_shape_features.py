"""Hand-made features: the values of shapes one knows, and the symmetry they claim."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.rotation import turned
from shoestring.pretrain.evaluation.shape_features import shape_features


def test_a_rod_is_linear_a_disc_planar_a_ball_neither(shapes) -> None:
    linearity, planarity, scattering = shape_features(shapes[0])[:3, :3].argmax(1)
    assert (linearity, planarity, scattering) == (0, 1, 2)


def test_histograms_are_shares(shapes) -> None:
    found = shape_features(shapes[0], invariant=True)
    assert found.shape == (36, 4 + 17 + 17)
    np.testing.assert_allclose(found[:, 4:20].sum(1), 1)
    np.testing.assert_allclose(found[:, 21:37].sum(1), 1)


def test_invariant_ones_do_not_turn_and_the_others_do(shapes) -> None:
    clouds = shapes[0]
    rotated = turned(clouds, "SO3", 0)
    np.testing.assert_allclose(
        shape_features(rotated, invariant=True), shape_features(clouds, invariant=True), atol=2e-3
    )
    assert np.abs(shape_features(rotated) - shape_features(clouds)).max() > 0.5


def test_the_box_has_its_sides() -> None:
    cloud = np.random.default_rng(0).uniform(0, 1, (1, 5000, 3)) * [2, 3, 4]
    sides = shape_features(cloud)[0, 38:41]
    np.testing.assert_allclose(sides, [2, 3, 4], rtol=0.01)


@pytest.mark.parametrize(
    "clouds",
    [np.zeros((2, 3)), np.zeros((2, 3, 3)), np.full((1, 9, 3), np.nan)],
    ids=["two axes", "three points", "nan"],
)
def test_what_is_no_cloud_is_refused(clouds: np.ndarray) -> None:
    with pytest.raises(BadInput, match="shape features"):
        shape_features(clouds)
