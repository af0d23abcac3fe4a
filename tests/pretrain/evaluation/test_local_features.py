"""Hand-made features of points: against loops, and of shapes whose values one knows."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.local_features import local_features


def test_against_loops() -> None:
    clouds = np.random.default_rng(0).normal(size=(2, 100, 3)).astype(np.float32)
    found = local_features(clouds, up=2)
    assert (found.shape, found.dtype) == ((2, 100, 18), np.float32)
    cloud = clouds[1].astype(np.float64)
    np.testing.assert_allclose(found[1, :, :3], cloud - cloud.mean(0), atol=1e-5)
    np.testing.assert_allclose(found[1, :, 3], np.linalg.norm(cloud - cloud.mean(0), axis=1), atol=1e-5)
    for n in range(0, 100, 7):
        order = np.argsort(np.linalg.norm(cloud - cloud[n], axis=1), kind="stable")
        for size, at in ((16, 4), (64, 11)):
            near = cloud[order[:size]]
            values, vectors = np.linalg.eigh(np.cov(near.T, bias=True))
            third, second, first = np.sqrt(values)
            expected = [(first - second) / first, (second - third) / first, third / first, np.log(first)]
            expected += [abs(vectors[2, 0]), cloud[n, 2] - near[:, 2].mean(), np.ptp(near[:, 2])]
            np.testing.assert_allclose(found[1, n, at : at + 7], expected, rtol=1e-3, atol=1e-4)


def test_floors_lie_and_walls_stand() -> None:
    flat = np.random.default_rng(0).uniform(-1, 1, (1, 300, 3)).astype(np.float32) * (1, 0, 1)
    floor, wall = local_features(flat)[0], local_features(flat[..., [1, 0, 2]])[0]
    assert floor[:, 6].max() < 1e-3  # nothing scatters
    assert floor[:, 8].min() > 0.99 and wall[:, 8].max() < 0.01


def test_few_points_are_their_own_neighbourhood() -> None:
    found = local_features(np.random.default_rng(0).normal(size=(20, 8, 3)))
    assert found.shape == (20, 8, 18)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("clouds", [np.zeros((2, 3)), np.zeros((2, 3, 3)), np.full((1, 9, 3), np.nan)])
def test_what_is_no_cloud_is_refused(clouds: np.ndarray) -> None:
    with pytest.raises(BadInput, match="local features"):
        local_features(clouds)
