"""Sums as layers: convolutions and linear layers whose weights are constants, so that runtimes and quantisers find what
they know. They learn nothing, and methods that take weights away leave them alone. `how`: as torch's layers take it
(padding, dilation, dtype and such)."""

from typing import Any

from torch import nn

POOL, TOTAL = "_pool", "_total"  # behind a layer's path: its sums over pixels and over channels


class Sum:
    """What these layers are."""

    def _fix(self, value: float) -> None:
        weight: nn.Parameter = self.weight  # type: ignore[attr-defined]  # mixed into layers
        nn.init.constant_(weight, value)
        weight.requires_grad_(False)


class SumPool1d(Sum, nn.Conv1d):
    """Sums over windows of each channel at stride 1: [B, C, W] -> [B, C, W']."""

    def __init__(self, channels: int, window: Any, **how: Any):
        super().__init__(channels, channels, window, groups=channels, bias=False, **how)
        self._fix(1.0)


class SumPool2d(Sum, nn.Conv2d):
    """Sums over windows of each channel at stride 1: [B, C, H, W] -> [B, C, H', W']."""

    def __init__(self, channels: int, window: Any, **how: Any):
        super().__init__(channels, channels, window, groups=channels, bias=False, **how)
        self._fix(1.0)


class ChannelSum1d(Sum, nn.Conv1d):
    """`value` times the sum of all channels: [B, C, W] -> [B, 1, W]."""

    def __init__(self, channels: int, value: float, **how: Any):
        super().__init__(channels, 1, 1, bias=False, **how)
        self._fix(value)


class ChannelSum2d(Sum, nn.Conv2d):
    """`value` times the sum of all channels: [B, C, H, W] -> [B, 1, H, W]."""

    def __init__(self, channels: int, value: float, **how: Any):
        super().__init__(channels, 1, 1, bias=False, **how)
        self._fix(value)


class FeatureSum(Sum, nn.Linear):
    """`value` times the sum of all features: [..., C] -> [..., 1]."""

    def __init__(self, features: int, value: float, **how: Any):
        super().__init__(features, 1, bias=False, **how)
        self._fix(value)
