"""Looks at a cloud: each does what it says and no more, rotations are rotations, features fit the symmetry."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.geometry.frames import averaged, canonical, in_frames
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.views import Views, cropped, features, point_features, seen, turned_view, turns, view

PLAIN = {"rotate": "none", "scale": 1.0, "shift": 0.0}


def turned(xyz: Tensor, seed: int = 0) -> Tensor:
    any_way = Rotation.random(len(xyz), random_state=seed).as_matrix()
    return torch.from_numpy(np.einsum("bij,bnj->bni", any_way, xyz.double().numpy()).astype(np.float32))


def test_nothing_asked_for_is_nothing_done(xyz: Tensor) -> None:
    assert torch.equal(view(xyz, Views(**PLAIN)), xyz)


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_about_the_vertical_nothing_rises(xyz: Tensor, up: str) -> None:
    found, axis = view(xyz, Views(**PLAIN | {"rotate": "up", "up": up})), "xyz".index(up)
    torch.testing.assert_close(found[:, :, axis], xyz[:, :, axis])
    torch.testing.assert_close(found.norm(dim=2), xyz.norm(dim=2))
    assert (found - xyz).abs().max() > 0.1


@pytest.mark.parametrize("rotate", ["none", "up", "so3"])
def test_a_look_says_how_it_was_turned(xyz: Tensor, rotate: str) -> None:
    """Before all that comes after the turn, and with the same numbers as `view` has them."""
    torch.manual_seed(1)
    found, by = turned_view(xyz, Views(**PLAIN | {"rotate": rotate}))
    torch.testing.assert_close(found, torch.einsum("bij,bnj->bni", by, xyz))
    assert by.shape == (6, 3, 3)
    assert torch.equal(by[0], torch.eye(3)) == (rotate == "none")
    all_of_it = Views(rotate=rotate, crop=0.7, jitter=0.01)
    torch.manual_seed(1)
    shown = view(xyz, all_of_it)
    torch.manual_seed(1)
    assert torch.equal(turned_view(xyz, all_of_it)[0], shown)


@pytest.mark.parametrize("rotate", ["up", "so3"])
def test_rotations_are_rotations_and_uniform(rotate: str) -> None:
    torch.manual_seed(0)
    found = turns(4000, rotate).double()
    torch.testing.assert_close(
        found @ found.transpose(1, 2), torch.eye(3).double().expand(4000, 3, 3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(4000).double(), atol=1e-5, rtol=0)
    expected = torch.diag(torch.tensor([0.0, 1.0, 0.0])) if rotate == "up" else torch.zeros(3, 3)
    # The standard error of the mean of an entry is below 0.7 / sqrt(4000) = 0.011.
    torch.testing.assert_close(found.mean(0), expected.double(), atol=0.05, rtol=0)
    angles = Rotation.from_matrix(found.numpy()).magnitude()
    # Angles of uniform rotations have the density (1 - cos a) / pi, whose mean is pi / 2 + 2 / pi.
    assert angles.mean() == pytest.approx(np.pi / 2 + (2 / np.pi if rotate == "so3" else 0), abs=0.05)


def test_each_axis_is_stretched_within_bounds(xyz: Tensor) -> None:
    ratio = view(xyz, Views(**PLAIN | {"scale": 1.5})) / xyz
    assert ratio.std(1).max() < 1e-3
    assert ratio.min() >= 1 / 1.5 - 1e-4
    assert ratio.max() <= 1.5 + 1e-4
    assert ratio.mean(1).std() > 0.05


def test_a_shift_moves_all_points_alike(xyz: Tensor) -> None:
    moved = view(xyz, Views(**PLAIN | {"shift": 0.2})) - xyz
    assert moved.std(1).max() < 1e-6
    assert 0.02 < moved.abs().max() <= 0.2 + 1e-6


def test_noise_is_cut(xyz: Tensor) -> None:
    moved = view(xyz, Views(**PLAIN | {"jitter": 0.01})) - xyz
    assert 0.008 < moved.std() < 0.012
    assert moved.abs().max() < 0.03 + 1e-6


def test_a_crop_is_a_ball(xyz: Tensor) -> None:
    torch.manual_seed(0)
    found = cropped(xyz, 0.5)
    assert 30 <= found.shape[1] <= 60
    for whole, part in zip(xyz.numpy(), found.numpy(), strict=True):
        away = np.linalg.norm(whole - part[0], axis=1)
        np.testing.assert_allclose(np.linalg.norm(part - part[0], axis=1), np.sort(away)[: len(part)], atol=1e-6)
    assert view(xyz, Views(**PLAIN | {"crop": 0.5})).shape[1] < 61


def test_frames_come_last(xyz: Tensor) -> None:
    torch.manual_seed(0)
    found = view(xyz, Views(**PLAIN | {"rotate": "so3", "shift": 0.2, "symmetry": "frames"}))
    torch.testing.assert_close(found, canonical(xyz), atol=1e-4, rtol=0)
    one = seen(xyz, "average")
    assert ((in_frames(xyz) - one[:, None]).abs().amax((2, 3)) == 0).any(1).all()


@pytest.mark.parametrize("symmetry", ["frames", "average"])
def test_features_do_not_depend_on_the_pose(xyz: Tensor, encoder: PointViT, symmetry: str) -> None:
    encoder.eval()
    found = features(encoder, xyz, symmetry)
    assert found.shape == (6, 48)
    torch.testing.assert_close(features(encoder, turned(xyz), symmetry), found, atol=1e-3, rtol=0)
    assert (features(encoder, turned(xyz)) - features(encoder, xyz)).abs().max() > 0.1
    expected = encoder.features(canonical(xyz)) if symmetry == "frames" else averaged(encoder.features, xyz)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rotate": "all"}, "rotate: 'all' is not known; write one of none, up, so3"),
        ({"symmetry": "yes"}, "symmetry: 'yes' is not known; write one of none, frames, average"),
        ({"up": "w"}, "up: 'w' is not known; write one of x, y, z"),
        ({"scale": 0.5}, "scale: 0.5 is out of range; give 1 to 10"),
        ({"crop": 0.0}, r"crop: 0.0 is out of range; give 0.05 to 1"),
        ({"jitter": -1}, "jitter: -1 is out of range"),
        ({"shift": float("nan")}, "shift: nan is out of range"),
    ],
)
def test_what_is_not_known_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Views(**wrong)


def test_features_of_points_turn_with_nothing(xyz: Tensor, encoder: PointViT) -> None:
    encoder.eval()
    with torch.no_grad():
        plain = point_features(encoder, xyz)
        torch.testing.assert_close(plain, encoder.point_features(xyz))
        torch.testing.assert_close(point_features(encoder, xyz, "average"), averaged(encoder.point_features, xyz))
        upright, turn = (point_features(encoder, one, "frames") for one in (xyz, turned(xyz)))
    torch.testing.assert_close(upright, turn, rtol=0, atol=1e-3)
    assert not torch.allclose(plain, upright, atol=0.1)
