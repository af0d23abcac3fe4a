"""Masks that hold zeros, under whatever is put on top."""

import pytest
import torch
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.graph.masks import Mask, cut, factors, groups_of, held, hold, layer_at, norms
from shoestring.graph.parametrized import put_first


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.fixture
def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def keep_of(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(1)) > 0.5


def test_zeros_are_exact_and_have_no_gradient() -> None:
    layer = nn.Linear(5, 4)
    keep = keep_of(layer)
    hold(layer, {"": keep})
    before_ = layer.weight.detach().clone()
    assert torch.equal(before_ == 0, ~keep)
    layer(torch.randn(3, 5)).square().sum().backward()
    gradient = layer.parametrizations.weight.original.grad
    assert torch.equal(gradient != 0, keep)
    assert torch.equal(held(layer)[""], keep)


def test_what_is_removed_may_still_learn() -> None:
    layer, x = nn.Linear(5, 4), torch.randn(3, 5)
    keep = keep_of(layer)
    put_first(layer, Mask(keep, through=True))
    assert torch.equal(layer.weight == 0, ~keep)
    layer(x).square().sum().backward()
    straight = nn.Linear(5, 4)
    with torch.no_grad():
        straight.weight.copy_(layer.weight)
        straight.bias.copy_(layer.bias)
    straight(x).square().sum().backward()
    torch.testing.assert_close(layer.parametrizations.weight.original.grad, straight.weight.grad)


def test_an_infinite_weight_does_not_get_through() -> None:
    mask = Mask(torch.tensor([[True, False]]))
    assert torch.equal(mask(torch.tensor([[1.0, float("inf")]])), torch.tensor([[1.0, 0.0]]))


def test_cut_takes_what_is_trained_and_sets_zeros(net: nn.Sequential) -> None:
    keep = keep_of(net[0])
    trained = net[0].weight.detach().clone()
    put_first(net[0], Twice())
    found = cut(net, {"0": keep, "4": torch.zeros(2, 16, dtype=torch.bool)})
    torch.testing.assert_close(found[0].weight, torch.where(keep, trained, 0.0))
    assert not found[4].weight.any()
    assert net[4].weight.any()
    assert set(found.state_dict()) == {"0.weight", "1.weight", "1.bias", "4.weight", "4.bias", *_STATISTICS}


_STATISTICS = ("1.running_mean", "1.running_var", "1.num_batches_tracked")


def test_layers_and_norms(net: nn.Sequential) -> None:
    gm = capture(net, (3, 2, 2))
    assert list(norms(gm)) == ["0"]
    norm = norms(gm)["0"]
    norm.running_var.fill_(3.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 4.0]))
    torch.testing.assert_close(factors(layer_at(gm, "0"), norm), norm.weight.detach() / (3 + norm.eps) ** 0.5)
    assert torch.equal(factors(layer_at(gm, "4"), None), torch.ones(2))
    assert groups_of(layer_at(gm, "4")) == 1
    assert groups_of(nn.Conv2d(4, 4, 1, groups=2)) == 2
    for path in ("1", "nowhere"):
        with pytest.raises(BadInput, match=f"^ltp: {path!r} is not a convolution or linear layer"):
            layer_at(gm, path, "ltp")
    with pytest.raises(BadInput, match="'1:2' is not"):
        layer_at(gm, "1", "ltp", "1:2")
