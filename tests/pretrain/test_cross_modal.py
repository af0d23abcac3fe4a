"""The loss as the sum of two, the sides a cloud is seen from, pictures that are given."""

import numpy as np
import pytest
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.contrast import ntxent
from shoestring.pretrain.cross_modal import CrossModal, PictureEncoder, sides
from shoestring.pretrain.render import pictures
from shoestring.pretrain.views import Views

STILL = Views(rotate="none", scale=1.0, shift=0.0)


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_what_is_up_is_up_in_the_picture(up: str) -> None:
    torch.manual_seed(0)
    found = sides(500, up).double()
    eye = torch.eye(3).double()
    torch.testing.assert_close(found @ found.transpose(1, 2), eye.expand(500, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(500).double(), atol=1e-5, rtol=0)
    axis = found @ eye["xyz".index(up)]
    assert axis[:, 0].abs().max() < 1e-5  # no picture is tilted to the side
    assert axis[:, 1].min() > np.cos(np.pi / 4) - 1e-5
    assert axis[:, 2].min() > -1e-5  # the eye is above: what is up comes nearer
    level = eye["xyz".index("yzx"["xyz".index(up)])]
    assert (found @ level)[:, 0].std() > 0.6  # from every side


def test_the_loss_is_that_of_looks_and_that_of_the_picture(xyz: Tensor, encoder: PointViT) -> None:
    torch.manual_seed(0)
    model = CrossModal(encoder, STILL, size=16).eval()
    index = torch.arange(6)
    torch.manual_seed(1)
    found = model(xyz, index)
    torch.manual_seed(1)
    a, b = model.codes(xyz)
    drawn = pictures(xyz.numpy(), sides(6, "y").numpy(), 16)
    seen = model.project_picture(model.see(torch.from_numpy(drawn)))
    torch.testing.assert_close(found, ntxent(a, b) + ntxent((a + b) / 2, seen))
    found.backward()
    assert encoder.embed.conv1.weight.grad is not None
    assert model.see.layers[0].weight.grad is not None


@pytest.mark.parametrize("shape", [(14, 8, 8), (14, 8, 8, 3)])
def test_pictures_that_are_given_go_with_their_clouds(xyz: Tensor, encoder: PointViT, shape: tuple[int, ...]) -> None:
    shown = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    model = CrossModal(encoder, STILL, shown=shown)
    found = model.pictures(xyz[:3], torch.tensor([5, 0, 13])).numpy()
    expected = shown[[5, 0, 13]].reshape(3, 8, 8, -1).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert torch.isfinite(model(xyz[:3], torch.tensor([5, 0, 13])))
    assert "given" not in model.state_dict()


def test_a_picture_becomes_a_vector() -> None:
    see = PictureEncoder(2, width=4)
    assert see.features == 32
    assert see(torch.randn(3, 2, 24, 24)).shape == (3, 32)


@pytest.mark.parametrize("shown", [np.zeros((14, 8)), np.zeros((14, 3, 8, 8)), np.zeros((14, 8, 8), dtype="U1")])
def test_what_are_no_pictures_is_told(encoder: PointViT, shown: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"^pictures: .* are none; give bytes or floats"):
        CrossModal(encoder, STILL, shown=shown)
