"""Convolutions on the voxels that are there (Submanifold Sparse Convolutional Networks, arXiv 1711.10275).

Plain torch: the rows of a tap are gathered, multiplied and added where the rule book says. They train on any device.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.geometry.rulebook import Pairs


class _Gathered(torch.autograd.Function):
    """sum over taps of x[source] @ weight[tap], added at target. Its own backward gathers again instead of keeping the
    gathered rows of 27 taps: a third of the memory. Within a tap no row is twice, so that nothing is added in an order
    that could differ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, rules: Sequence[Pairs], rows: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rules = rules
        y = x.new_zeros(rows, weight.shape[2])
        for pairs, tap in zip(rules, weight, strict=True):
            if len(pairs.source):
                y.index_add_(0, pairs.target, x.index_select(0, pairs.source) @ tap)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to_x, to_weight = torch.zeros_like(x), torch.zeros_like(weight)
        for tap, pairs in enumerate(ctx.rules):
            if len(pairs.source):
                rows = gradient.index_select(0, pairs.target)
                to_x.index_add_(0, pairs.source, rows @ weight[tap].T)
                to_weight[tap] = x.index_select(0, pairs.source).T @ rows
        return to_x, to_weight, None, None


class SparseConv3d(nn.Module):
    """[V, cin] -> [rows, cout] along a rule book of as many lists as there are `taps`: 27 of `voxels.neighbours`
    (submanifold: rows = V), 8 of `voxels.coarser` (strided). Without bias; `weight` [taps, cin, cout]."""

    def __init__(self, cin: int, cout: int, taps: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(taps, cin, cout))
        # He initialisation; submanifold taps meet a voxel in about a third of all cases (surfaces).
        nn.init.normal_(self.weight, std=math.sqrt(2 / (cin * max(1, taps / 3 if taps == 27 else taps / 4))))

    def forward(self, x: Tensor, rules: Sequence[Pairs], rows: int) -> Tensor:
        return _Gathered.apply(x, self.weight, rules, rows)


class InverseConv3d(SparseConv3d):
    """The strided convolution's rule book the other way round: back to the voxels it came from."""

    def forward(self, x: Tensor, rules: Sequence[Pairs], rows: int) -> Tensor:
        return super().forward(x, [Pairs(pairs.target, pairs.source) for pairs in rules], rows)
