"""The sparse U-Net: what it depends on and what not, and that it learns on a CPU."""

import pytest
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.models.sparse_unet import SparseUNet


def network(**settings: object) -> SparseUNet:
    torch.manual_seed(0)
    return SparseUNet(3, 0.25, channels=(8, 12, 16), **settings).eval()


def cloud(points: int = 200) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, points, 3) * torch.tensor([4.0, 4.0, 1.0])


def test_points_of_a_voxel_share_their_logits() -> None:
    model, xyz = network(), cloud()
    logits, index, cells = model.voxels(xyz)
    found = model(xyz)
    assert found.shape == (2, 200, 3) and logits.shape == (len(cells), 3)
    assert torch.equal(found.reshape(-1, 3), logits[index])


@torch.no_grad()
def test_the_order_of_points_and_the_company_do_not_matter() -> None:
    model, xyz = network(), cloud()
    order = torch.randperm(200)
    torch.testing.assert_close(model(xyz[:, order]), model(xyz)[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(xyz[1:]), model(xyz)[1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_shift_by_whole_coarsest_cells_changes_nothing() -> None:
    model, xyz = network(), cloud()
    torch.testing.assert_close(model(xyz + 4 * 0.25), model(xyz), rtol=1e-3, atol=1e-4)


def test_features_of_points_are_read_and_asked_for() -> None:
    model, xyz = network(features=2), cloud()
    x = torch.rand(2, 200, 2)
    assert not torch.equal(model(xyz, x), model(xyz, 2 * x))
    with pytest.raises(BadInput, match="0 features a point were given, it was made for 2"):
        model(xyz)


def test_it_learns_which_points_are_the_ground() -> None:
    model, xyz = network().train(), cloud(400)
    labels = (xyz[..., 2] > 0.5).long()
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(model(xyz).flatten(0, 1), labels.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_why_it_has_no_graph_is_said_in_one_line() -> None:
    with pytest.raises(BadInput, match=r"^sparse_unet: which voxels meet depends on the points.*PointViT.*torch$"):
        capture(network(), (200, 3))
