"""Frames: rotations, the same for every pose, decided where they can be; SciPy and NumPy as oracles."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from shoestring.geometry.frames import averaged, canonical, frames, in_frames


def skewed(batch: int = 8, seed: int = 0) -> Tensor:
    """Clouds with three different variances and skewness along each axis."""
    rng = np.random.default_rng(seed)
    points = rng.gamma(1.5, 1.0, (batch, 300, 3)) * [1.0, 0.6, 0.3]
    return turned(torch.from_numpy(points.astype(np.float32)), seed + 1)


def turned(xyz: Tensor, seed: int = 5, shift: float = 0.0) -> Tensor:
    turns = Rotation.random(len(xyz), random_state=seed).as_matrix()
    moved = np.einsum("bij,bnj->bni", turns, xyz.double().numpy()) + shift
    return torch.from_numpy(moved.astype(np.float32))


def test_frames_are_rotations_along_the_principal_axes() -> None:
    xyz = skewed()
    found = frames(xyz).double().numpy()
    assert found.shape == (8, 4, 3, 3)
    np.testing.assert_allclose(found @ found.transpose(0, 1, 3, 2), np.broadcast_to(np.eye(3), found.shape), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-6)
    for cloud, own in zip(xyz.double().numpy(), found, strict=True):
        _, _, axes = np.linalg.svd(cloud - cloud.mean(0))
        np.testing.assert_allclose(np.abs(own @ axes.T), np.broadcast_to(np.eye(3), (4, 3, 3)), atol=1e-3)
    assert len({tuple(np.sign(row).ravel()) for row in found[0]}) == 4


@pytest.mark.parametrize("seed", range(5))
def test_a_canonical_cloud_does_not_depend_on_pose_and_place(seed: int) -> None:
    xyz = skewed()
    torch.testing.assert_close(canonical(turned(xyz, seed, 0.5)), canonical(xyz), rtol=0, atol=1e-4)


def test_a_canonical_cloud_stays_as_it_is() -> None:
    once = canonical(skewed())
    torch.testing.assert_close(canonical(once), once, rtol=0, atol=1e-4)


def test_the_two_axes_most_skewed_point_to_the_long_tail() -> None:
    along = canonical(skewed()).double().numpy()
    skew = (along**3).mean(1) / (along**2).mean(1) ** 1.5
    for own in skew:
        assert (own[np.argsort(np.abs(own))[1:]] > 0).all()


def test_a_mirror_image_is_another_shape() -> None:
    """Frames are rotations: handedness is kept."""
    xyz = skewed()
    mirrored = canonical(xyz * torch.tensor([-1.0, 1.0, 1.0]))
    assert (mirrored - canonical(xyz)).abs().amax((1, 2)).min() > 0.1


def test_the_noise_of_a_mirror_plane_decides_nothing() -> None:
    """Along the normal of a mirror plane there is no skewness; the sign comes from the other axes."""
    half = skewed(1)[0]
    half = canonical(half[None])[0]
    whole = torch.cat([half, half * torch.tensor([1.0, 1.0, -1.0])])[None]
    found = canonical(whole)
    for seed in range(8):
        again = canonical(turned(whole, seed))
        torch.testing.assert_close(again, found, rtol=0, atol=1e-4)


def test_a_rotation_only_exchanges_the_four() -> None:
    """Even where nothing is skewed."""
    xyz = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 200, 3)).astype(np.float32))
    xyz = torch.cat([xyz, -xyz], 1) * torch.tensor([1.0, 0.6, 0.3])
    mine, theirs = in_frames(xyz)[0], in_frames(turned(xyz))[0]
    for one in mine:
        assert (theirs - one).abs().amax((1, 2)).min() < 1e-4


def test_the_average_of_any_function_is_invariant() -> None:
    def function(xyz: Tensor) -> Tensor:
        return torch.stack([xyz[:, 0, 0], (xyz[:, :, 1] ** 3 * xyz[:, :, 0]).sum(1), xyz[:, :, 2].amax(1)], 1)

    xyz = skewed()
    found = averaged(function, xyz)
    torch.testing.assert_close(averaged(function, turned(xyz)), found, rtol=1e-3, atol=1e-3)
    expected = np.mean([function(in_frames(xyz)[:, k]).numpy() for k in range(4)], 0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (function(turned(xyz)) - function(xyz)).abs().max() > 0.1


def test_gradients_reach_the_points() -> None:
    xyz = skewed(2).requires_grad_()
    canonical(xyz)[:, 0].sum().backward()
    assert xyz.grad is not None
    assert xyz.grad.isfinite().all()
