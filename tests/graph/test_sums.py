"""Sums as layers: they sum, and nobody trains them."""

import torch
from torch import nn
from torch.nn import functional as F

from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.graph.sums import ChannelSum1d, ChannelSum2d, FeatureSum, Sum, SumPool1d, SumPool2d


def test_over_pixels() -> None:
    x = torch.randn(2, 3, 7, 6)
    pooled = 4 * F.avg_pool2d(x, 2, 1, 1)
    torch.testing.assert_close(SumPool2d(3, 2, padding=1)(x), pooled)
    torch.testing.assert_close(SumPool1d(3, 3)(x[..., 0]), 3 * F.avg_pool1d(x[..., 0], 3, 1))


def test_over_channels() -> None:
    x = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(ChannelSum2d(5, 0.5)(x), 0.5 * x.sum(1, keepdim=True))
    torch.testing.assert_close(ChannelSum1d(5, 2.0)(x[..., 0]), 2 * x[..., 0].sum(1, keepdim=True))
    torch.testing.assert_close(FeatureSum(4, 0.5)(x), 0.5 * x.sum(-1, keepdim=True))


def test_they_learn_nothing_and_the_inventory_says_so() -> None:
    sums = [SumPool1d(2, 2), SumPool2d(2, 2), ChannelSum1d(2, 1.0), ChannelSum2d(2, 1.0), FeatureSum(2, 1.0)]
    for layer in sums:
        assert isinstance(layer, Sum)
        assert not any(parameter.requires_grad for parameter in layer.parameters())
    wide = ChannelSum2d(2, 3**-0.5, dtype=torch.float64)
    assert wide.weight[0, 0, 0, 0].item() == 3**-0.5
    model = capture(
        nn.Sequential(nn.Conv2d(3, 4, 3), SumPool2d(4, 2), nn.Flatten(), FeatureSum(100, 1.0)).eval(), (3, 8, 8)
    )
    assert [layer.fixed for layer in inventory(model, (3, 8, 8))] == [False, True, True]
