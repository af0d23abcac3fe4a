"""Parametrizations put on, read and baked."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shoestring.graph.masks import hold
from shoestring.graph.parametrized import before, make_plain, plain, put_first, transforms


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class Plus(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight + 1


@pytest.fixture
def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def keep_of(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(1)) > 0.5


def test_the_first_comes_before_what_is_there() -> None:
    layer = nn.Linear(3, 2, bias=False)
    original = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", Twice())
    put_first(layer, plus := Plus())
    assert [type(step) for step in transforms(layer)] == [Plus, Twice]
    torch.testing.assert_close(layer.weight, 2 * (original + 1))
    assert torch.equal(before(layer, plus), original)
    torch.testing.assert_close(before(layer, transforms(layer)[1]), original + 1)
    with pytest.raises(ValueError, match="Twice is not put on the weight of this"):
        before(layer, Twice())
    assert transforms(nn.ReLU()) == ()


def test_plain_copies(net: nn.Sequential) -> None:
    x = torch.randn(2, 3, 2, 2)
    parametrize.register_parametrization(net[4], "weight", Twice())
    hold(net, {"0": keep_of(net[0])})
    net.eval()
    baked = plain(net)
    torch.testing.assert_close(baked(x), net(x))
    assert not any(parametrize.is_parametrized(module) for module in baked.modules())
    assert all(parameter.requires_grad for parameter in baked.parameters())
    assert parametrize.is_parametrized(net[0])  # the class of the original is left alone
    assert type(baked[0]) is nn.Conv2d
    assert list(baked.state_dict()) == list(nn.Sequential(*baked).state_dict())


def test_make_plain_takes_the_weight_that_is_given() -> None:
    layer = nn.Linear(3, 2)
    parametrize.register_parametrization(layer, "weight", Twice())
    make_plain(layer, torch.ones(2, 3))
    assert type(layer) is nn.Linear
    assert torch.equal(layer.weight, torch.ones(2, 3))
