"""What a layer reads and what it should write, as second moments: all that a least-squares fit of it needs."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Window:
    """How a convolution reads its input; `pads`: before and after each axis, in the order of the axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilations: tuple[int, ...]
    groups: int = 1


def patches(x: Tensor, window: Window) -> Tensor:
    """What each output position of a convolution reads. `x`: [n, C, ...] with one or two axes of positions, to
    [groups, C / groups * taps, n * positions], in the order of a weight [O, C / groups, ...]."""
    flat = [side for pair in reversed(window.pads) for side in pair]
    x = functional.pad(x, flat)
    kernel, strides, dilations = window.kernel, window.strides, window.dilations
    if len(kernel) == 1:
        x, kernel, strides, dilations = x[:, :, None], (1, *kernel), (1, *strides), (1, *dilations)
    if kernel == (1, 1):
        return by_groups(x[:, :, :: strides[0], :: strides[1]], window.groups)
    return by_groups(functional.unfold(x, kernel, dilation=dilations, stride=strides), window.groups)


def by_groups(x: Tensor, groups: int) -> Tensor:
    """[n, C, ...] as [groups, C / groups, n * positions]: what `Moments` adds up."""
    columns = x.flatten(2)
    n, width, positions = columns.shape
    return columns.reshape(n, groups, width // groups, positions).permute(1, 2, 0, 3).flatten(2)


Batches = Iterable[tuple[Tensor, Tensor]]
"""Of x, float32 [groups, d, positions] as `patches` gives them, and y [groups, o, positions]."""


@dataclass
class Moments:
    """Of each group: sums over all positions of x [d], y [o] and of their products, float64. Products of one batch are
    made in float32. Nothing grows with the number of inputs."""

    count: int = 0
    x: Tensor = field(default_factory=lambda: torch.zeros(()))
    y: Tensor = field(default_factory=lambda: torch.zeros(()))
    xx: Tensor = field(default_factory=lambda: torch.zeros(()))
    yx: Tensor = field(default_factory=lambda: torch.zeros(()))
    yy: Tensor = field(default_factory=lambda: torch.zeros(()))

    @classmethod
    def of(cls, batches: Batches) -> "Moments":
        found = cls()
        for x, y in batches:
            found.count += x.shape[2]
            found.x = found.x + _sums(x)
            squares = (x @ x.mT).double()
            found.xx = found.xx + (squares + squares.mT) / 2  # products of float32 need not be symmetric
            found.y = found.y + _sums(y)
            found.yx = found.yx + (y @ x.mT).double()
            found.yy = found.yy + _sums(y.square())
        return found

    def moved(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> "Moments":
        """With another y, by what a part of the positions says of it: `batches` of x, y and the other y."""
        count, y, yx, yy = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
        for x, old, new in batches:
            move = new - old
            count += x.shape[2]
            y, yx, yy = y + _sums(move), yx + (move @ x.mT).double(), yy + _sums(move * (new + old))
        share = self.count / max(count, 1)
        return Moments(self.count, self.x, self.y + share * y, self.xx, self.yx + share * yx, self.yy + share * yy)

    def means(self) -> tuple[Tensor, Tensor]:
        """Of x [groups, d] and of y [groups, o]."""
        return self.x / self.count, self.y / self.count

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of x [groups, d, d], of y with x [groups, o, d], and the variance of y [groups, o]: what matters for weights
        when the bias is free."""
        x, y = self.means()
        xx = self.xx / self.count - x[:, :, None] * x[:, None, :]
        yx = self.yx / self.count - y[:, :, None] * x[:, None, :]
        return xx, yx, self.yy / self.count - y.square()


def _sums(values: Tensor) -> Tensor:
    """Over positions, which is quicker as a product."""
    return (values @ torch.ones(values.shape[2])).double()
