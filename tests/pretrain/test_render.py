"""Pictures of clouds against a loop over points, and what a ball, a slope and a turn must look like."""

import math

import numpy as np
import pytest

from shoestring.pretrain.render import depths, pictures

STILL = np.eye(3)[None]


@pytest.mark.parametrize("splat", [1, 2, 3])
def test_of_the_points_on_a_pixel_the_nearest_is_seen(splat: int) -> None:
    size, points = 16, np.random.default_rng(0).uniform(-1.2, 1.2, (2, 200, 3)).astype(np.float32)
    expected = np.full((2, size, size), -np.inf, np.float32)
    for b in range(2):
        for x, y, z in points[b]:
            left = math.floor((x / 1.05 + 1) / 2 * size - (splat - 1) / 2)
            low = math.floor((y / 1.05 + 1) / 2 * size - (splat - 1) / 2)
            for i in range(splat):
                for j in range(splat):
                    row, column = size - 1 - (low + i), left + j
                    if 0 <= row < size and 0 <= column < size:
                        expected[b, row, column] = max(expected[b, row, column], z)
    assert np.array_equal(depths(points, size, splat), expected)


def test_a_ball_is_a_disc_nearest_in_the_middle() -> None:
    ball = np.random.default_rng(0).standard_normal((1, 20000, 3)).astype(np.float32)
    ball /= np.linalg.norm(ball, axis=2, keepdims=True)
    near, shade = pictures(ball, STILL, 32)[0]
    rows, columns = np.mgrid[:32, :32]
    away = np.hypot(rows - 15.5, columns - 15.5) / 16 * 1.05
    assert (near[away > 1.15] == 0).all()
    inside = away < 0.8
    reach = 1.5 * np.sqrt(2) * 2.1 / 32  # from a pixel's middle to the farthest point that may cover it
    height = near * 2.1 - 1.05
    assert (height <= np.sqrt(1 - np.maximum(away - reach, 0).clip(max=1) ** 2) + 1e-6)[inside].all()
    assert (height >= np.sqrt(1 - (away + reach).clip(max=1) ** 2) - 1e-6)[inside].all()
    assert (shade[away < 0.3] > 0.9).all()
    assert shade[(away > 0.7) & inside].max() < shade[away < 0.3].min()


def test_what_points_up_is_at_the_top_and_what_points_right_at_the_right() -> None:
    corner = np.array([[[0.9, 0.0, 0.0], [0.0, 0.9, 0.0]]], np.float32)
    near = pictures(corner, STILL, 16, 1)[0, 0]
    assert {tuple(place) for place in np.argwhere(near)} == {(7, 14), (1, 8)}


def test_a_turn_turns_the_cloud_not_the_eye() -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 100, 3)).astype(np.float32)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x becomes y
    turned = pictures(points, np.stack([quarter] * 3), 16, 1)
    np.testing.assert_allclose(turned, pictures(points @ quarter.T.astype(np.float32), np.stack([STILL[0]] * 3), 16, 1))
    assert not np.array_equal(turned, pictures(points, np.stack([STILL[0]] * 3), 16, 1))


def test_where_nothing_is_both_channels_are_nothing() -> None:
    found = pictures(np.zeros((1, 1, 3), np.float32), STILL, 16, 1)
    assert found.dtype == np.float32
    assert found.shape == (1, 2, 16, 16)
    assert np.count_nonzero(found[0, 0]) == np.count_nonzero(found[0, 1]) == 1
