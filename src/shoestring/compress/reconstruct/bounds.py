"""Layers behind which values are clipped: what lies beyond a bound on both sides is no error.

The target of each output is moved to what is written there now wherever both lie beyond the same bound, and to the
bound where only the original does; least squares with that target, repeated, brings down the error after clipping. The
idea is that of the asymmetric, nonlinear reconstruction of Zhang et al., Accelerating Very Deep Convolutional Networks
for Classification and Detection, arXiv 1505.06798.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from shoestring.compress.reconstruct.moments import Batches

Bounds = tuple[float, float]


def aimed(
    batches: Batches, positions: int, weight: Tensor, bias: Tensor, bounds: Bounds
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """x, y and the target of a layer that writes `weight` [g, o, d] x + `bias` [g, o] so far; of the first `batches`
    that have so many positions."""
    low, high = bounds
    w, b = weight.float(), bias.float()[:, :, None]
    for x, y in batches:
        now = torch.baddbmm(b, w, x)
        yield x, y, torch.where(y <= low, now.clamp_max(low), torch.where(y >= high, now.clamp_min(high), y))
        positions -= x.shape[2]
        if positions <= 0:
            break


def clipped_errors(batches: Batches, tried: list[tuple[Tensor, Tensor]], bounds: Bounds) -> list[Tensor]:
    """The mean squared error after clipping, [g, o], of each weight and bias of `tried`."""
    sums, count = [torch.zeros(()).double() for _ in tried], 0
    single = [(weight.float(), bias.float()[:, :, None]) for weight, bias in tried]
    for x, y in batches:
        wanted = y.clamp(*bounds)
        count += x.shape[2]
        for index, (weight, bias) in enumerate(single):
            wrong = torch.baddbmm(bias, weight, x).clamp_(*bounds).sub_(wanted)
            sums[index] = sums[index] + wrong.square_().sum(2).double()
    return [total / count for total in sums]
