"""PointMLP against the usual way to write it, with the same weights: everything concatenated and grouped first."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shoestring.core.errors import BadInput
from shoestring.models.point_mlp import PointMLP, Residual, Stage, point_mlp


def plain(model: PointMLP, xyz: Tensor) -> Tensor:
    """Sampling as a loop, neighbours by cdist and topk, and one convolution on [offsets, features] of every group."""
    x = F.relu(layer(model.embed, xyz.transpose(1, 2).unsqueeze(3)))
    for stage in model.stages:
        assert isinstance(stage, Stage)
        centres = gathered(xyz, sampled(xyz, stage.count))
        near = torch.cdist(centres, xyz).topk(stage.neighbours, 2, largest=False).indices
        offsets = (gathered(xyz, near) - centres[:, :, None]) * stage.nearness
        groups = torch.cat([offsets, gathered(x.squeeze(3).transpose(1, 2), near)], 3).permute(0, 3, 1, 2)
        geometry, feature = fused(stage.geometry), fused(stage.feature)
        weight = torch.cat([geometry.weight, feature.weight], 1)
        y = F.relu(F.conv2d(groups, weight, geometry.bias + feature.bias))
        for block in stage.before:
            y = residual(block, y)
        x = y.max(3, keepdim=True).values
        for block in stage.after:
            x = residual(block, x)
        xyz = centres
    flat = x.flatten(2)
    return model.head(torch.cat([flat.max(2).values, flat.mean(2)], 1))


def sampled(xyz: Tensor, count: int) -> Tensor:
    near = torch.full(xyz.shape[:2], 1e10)
    picked = torch.zeros(len(xyz), count, dtype=torch.int64)
    for turn in range(1, count):
        last = xyz[torch.arange(len(xyz)), picked[:, turn - 1]]
        near = torch.minimum(near, (xyz - last[:, None]).square().sum(2))
        picked[:, turn] = near.argmax(1)
    return picked


def gathered(x: Tensor, index: Tensor) -> Tensor:
    return torch.stack([own[places] for own, places in zip(x, index, strict=True)])


def fused(pair: nn.Module) -> nn.Conv2d:
    assert isinstance(pair, nn.Sequential)
    made = fuse_conv_bn_eval(pair[0], pair[1])
    assert isinstance(made, nn.Conv2d)
    return made


def layer(pair: nn.Module, x: Tensor) -> Tensor:
    return fused(pair)(x)


def residual(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, Residual)
    return F.relu(x + layer(block.expand, F.relu(layer(block.reduce, x))))


def settled(model: PointMLP, points: int) -> PointMLP:
    model.train()
    for _ in range(3):
        model(F.normalize(torch.randn(4, points, 3), dim=2))
    return model.eval()


def test_against_the_usual_form() -> None:
    torch.manual_seed(0)
    model = settled(PointMLP(7, width=8, neighbours=5, points=96), 96)
    xyz = F.normalize(torch.randn(3, 96, 3), dim=2)
    with torch.no_grad():
        assert torch.allclose(model(xyz), plain(model, xyz), atol=1e-5, rtol=1e-5)


def test_steps_of_the_usual_length_teach_it() -> None:
    """What the head reads is all positive and long: without a norm behind its first layer, one step of SGD moved all of
    that layer's outputs by hundreds, and its ReLUs never spoke again."""
    torch.manual_seed(0)
    model = PointMLP(4, width=16, neighbours=4, points=64).train()
    labels = torch.arange(16) % 4
    xyz = torch.randn(16, 64, 3) * torch.stack([torch.ones(16), 0.1 + 0.3 * labels, torch.ones(16)], 1)[:, None]
    xyz = xyz / xyz.norm(dim=2).amax(1)[:, None, None]
    optimiser = torch.optim.SGD(model.parameters(), 0.02, 0.9, nesterov=True)
    for _ in range(20):
        optimiser.zero_grad()
        loss = F.cross_entropy(model(xyz), labels)
        loss.backward()
        optimiser.step()
    assert loss < 0.15  # 0.4 to 0.6 without


def test_the_default_network_is_small() -> None:
    parameters = sum(parameter.numel() for parameter in point_mlp().parameters())
    assert 0.3e6 < parameters < 0.7e6


def test_the_order_of_the_points_matters_for_the_first_only() -> None:
    """Sampling starts with point 0; whatever the order of the others, the same points are taken."""
    torch.manual_seed(1)
    model = settled(PointMLP(7, width=8, neighbours=5, points=96), 96)
    xyz = torch.randn(1, 96, 3) / 3
    order = torch.cat([torch.tensor([0]), 1 + torch.randperm(95)])
    with torch.no_grad():
        assert torch.allclose(model(xyz), model(xyz[:, order]), atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    model = PointMLP(3, width=8, neighbours=4, points=64)
    model(torch.randn(2, 64, 3)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("points", "neighbours"), [(100, 4), (64, 9)])
def test_points_that_cannot_be_halved(points: int, neighbours: int) -> None:
    with pytest.raises(BadInput, match=f"{points} points cannot be halved 4 times, with {neighbours} neighbours"):
        PointMLP(points=points, neighbours=neighbours)
