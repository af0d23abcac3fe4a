"""The Chamfer distance against SciPy, what is hidden, and that hidden points are found."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from shoestring.models.point_vit import PointViT
from shoestring.pretrain.point_mae import PointMAE, chamfer, divided
from shoestring.pretrain.views import Views

STILL = Views(rotate="none", scale=1.0, shift=0.0)


def test_chamfer_is_that_of_nearest_neighbours_by_a_tree() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 20, 3)), rng.standard_normal((5, 31, 3))
    found = chamfer(torch.from_numpy(a), torch.from_numpy(b))
    for one, two, value in zip(a, b, found.tolist(), strict=True):
        there, back = cKDTree(two).query(one)[0], cKDTree(one).query(two)[0]
        assert value == pytest.approx((there**2).mean() + (back**2).mean())


def test_chamfer_of_a_set_with_itself_is_nothing_and_its_gradient_is_right() -> None:
    a = torch.randn(3, 6, 3, dtype=torch.float64)
    assert chamfer(a, a[:, torch.randperm(6)]).abs().max() == 0
    b = torch.randn(3, 7, 3, dtype=torch.float64)
    torch.autograd.gradcheck(lambda given: chamfer(given, b), a.requires_grad_())


@pytest.mark.parametrize(("hidden", "count"), [(0.6, 38), (0.0, 1), (1.0, 63)])
def test_every_patch_is_seen_or_hidden(hidden: float, count: int) -> None:
    seen, gone = divided(50, 64, hidden)
    assert gone.shape == (50, count)
    assert torch.equal(torch.cat([seen, gone], 1).sort(1).values, torch.arange(64).expand(50, 64))
    if hidden == 0.6:  # each patch is hidden equally often: 50 * 0.6 = 30, and 5 standard deviations
        assert (gone.flatten().bincount(minlength=64) - 50 * count / 64).abs().max() < 18


def test_the_loss_is_the_distance_of_what_is_decoded(xyz: Tensor, encoder: PointViT) -> None:
    """With no coordinates decoded (weights and bias zero), all 6 points lie on the centre."""
    model = PointMAE(encoder, STILL).eval()
    torch.nn.init.zeros_(model.points.weight)
    torch.nn.init.zeros_(model.points.bias)
    torch.manual_seed(1)
    found = model(xyz, torch.arange(6)).item()
    torch.manual_seed(1)
    _, hidden = divided(6, 8, 0.6)
    groups, _ = encoder.group(xyz)
    norms = groups.square().sum(3)[torch.arange(6)[:, None], hidden]
    assert found == pytest.approx((norms.mean() + norms.amin(2).mean()).item(), rel=1e-5)


def test_the_encoder_does_not_see_what_is_hidden(xyz: Tensor, encoder: PointViT) -> None:
    model = PointMAE(encoder, STILL)
    given = list[Tensor]()
    encoder.embed.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    model(xyz, torch.arange(6))
    assert given[0].shape == (6, 3, 6, 3)  # 8 patches less the 5 that are hidden


def test_hidden_points_are_found(xyz: Tensor, encoder: PointViT) -> None:
    torch.manual_seed(0)
    model = PointMAE(encoder, STILL)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        loss = model(xyz, torch.arange(6))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
