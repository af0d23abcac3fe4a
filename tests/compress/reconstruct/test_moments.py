"""Sums over positions, against torch's own convolutions and NumPy's covariances."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from shoestring.compress.reconstruct.moments import Moments, Window, by_groups, patches

WINDOWS = {
    "1x1": Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "1x1 stride": Window((1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1)),
    "1x1 padded": Window((1, 1), (1, 1), ((1, 0), (0, 2)), (1, 1)),
    "3x3": Window((3, 3), (1, 2), ((1, 0), (0, 2)), (1, 1)),
    "dilated": Window((2, 3), (1, 1), ((2, 1), (2, 2)), (2, 1)),
    "grouped": Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), groups=3),
    "depthwise": Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), groups=6),
    "1d": Window((3,), (2,), ((1, 1),), (1,), groups=2),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_patches_times_a_weight_are_the_convolution(name: str) -> None:
    window, rng = WINDOWS[name], torch.Generator().manual_seed(0)
    axes = len(window.kernel)
    x = torch.randn(2, 6, *(9, 8)[:axes], generator=rng)
    weight = torch.randn(12, 6 // window.groups, *window.kernel, generator=rng)
    flat = [side for pair in reversed(window.pads) for side in pair]
    convolve = functional.conv1d if axes == 1 else functional.conv2d
    expected = convolve(
        functional.pad(x, flat), weight, stride=window.strides, dilation=window.dilations, groups=window.groups
    )
    read = patches(x, window)
    ours = weight.reshape(window.groups, 12 // window.groups, -1) @ read
    torch.testing.assert_close(ours, by_groups(expected, window.groups))


def test_covariances_are_those_of_all_positions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (2, 4, 900)).astype(np.float32), rng.normal(-1, 1, (2, 3, 900)).astype(np.float32)
    parts = np.split(np.arange(900), [100, 101, 500])
    moments = Moments.of((torch.from_numpy(x[:, :, part]), torch.from_numpy(y[:, :, part])) for part in parts)
    xx, yx, yy = moments.covariances()
    for group in range(2):
        whole = np.cov(np.concatenate([x[group], y[group]]).astype(float), bias=True)
        np.testing.assert_allclose(xx[group], whole[:4, :4], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(yx[group], whole[4:, :4], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(yy[group], np.diag(whole)[4:], rtol=1e-4)
    assert moments.count == 900
    np.testing.assert_allclose(moments.means()[0], x.mean(2), rtol=1e-5)


def test_a_mean_far_from_zero_leaves_the_variance() -> None:
    """float32 alone would lose it: the mean is a thousand times the deviation."""
    x = torch.from_numpy(np.random.default_rng(0).normal(1000, 1, (1, 2, 20000)).astype(np.float32))
    moments = Moments.of((part, part) for part in x.split(500, 2))
    xx, _, _ = moments.covariances()
    np.testing.assert_allclose(xx[0].diagonal(), [1, 1], rtol=0.1)


@pytest.mark.parametrize("part", [1, 2, 3])
def test_another_y_by_a_part_of_the_positions(part: int) -> None:
    """What all positions say exactly, a part of them says nearly."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 4, 3000, generator=rng), torch.randn(1, 2, 3000, generator=rng) + 1
    other = y.clamp_min(0) + 0.1 * x[:, :2]
    batches = list(zip(x.split(1000, 2), y.split(1000, 2), other.split(1000, 2), strict=True))
    moved = Moments.of((a, b) for a, b, _ in batches).moved(batches[:part])
    straight = Moments.of((a, c) for a, _, c in batches)
    rtol, atol = (1e-5, 1e-6) if part == 3 else (0.15, 0.05)
    for ours, theirs in zip(moved.covariances(), straight.covariances(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    torch.testing.assert_close(moved.means(), straight.means(), rtol=rtol, atol=atol)
