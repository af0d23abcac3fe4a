"""The operators in torch, for any device and type: all clouds at once, and never more than some distances at a time."""

import torch
from torch import Tensor

from shoestring.geometry import reference

_ELEMENTS = 1 << 24  # distances at once


def farthest(xyz: Tensor, count: int) -> Tensor:
    """Farthest point sampling: int64 [B, count] of points [B, N, 3]."""
    x, y, z = (plane.contiguous() for plane in xyz.unbind(2))
    near = torch.full_like(x, torch.inf)
    places = torch.arange(x.shape[1], device=x.device)
    index = torch.zeros(len(x), count, dtype=torch.int64, device=x.device)
    for k in range(1, count):
        last = index[:, k - 1 : k]
        dx, dy, dz = (plane - plane.gather(1, last) for plane in (x, y, z))
        near = torch.minimum(near, (dx * dx + dy * dy) + dz * dz)
        # Of equally far ones the first: argmax does not say which it takes.
        index[:, k] = torch.where(near == near.amax(1, keepdim=True), places, len(places)).amin(1)
    return index


def nearest(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    """The `count` nearest of `xyz` [B, N, 3] to each of `centres` [B, M, 3], nearest first: int64 [B, M, count]."""
    return torch.cat([_nearest(some, xyz, count)[1] for some in _chunks(centres, xyz)], 1)


def within(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    """Like `nearest`, but of points farther than `radius` the nearest one stands in their place."""
    limit = torch.tensor(radius, dtype=xyz.dtype, device=xyz.device).square()
    parts = [_nearest(some, xyz, count) for some in _chunks(centres, xyz)]
    return torch.cat([torch.where(away <= limit, index, index[..., :1]) for away, index in parts], 1)


def _chunks(centres: Tensor, xyz: Tensor) -> tuple[Tensor, ...]:
    return centres.split(max(1, _ELEMENTS // max(1, xyz.shape[0] * xyz.shape[1])), 1)


def _nearest(centres: Tensor, xyz: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Squared distances and indices. `topk` does not say which of equal values comes first, so for float32 it gets keys
    of a distance's bits (which are in the same order, as none is negative) and an index."""
    away = reference.distances(centres, xyz)
    if away.dtype != torch.float32:
        values, index = away.sort(dim=2, stable=True)
        return values[..., :count], index[..., :count]
    keys = away.view(torch.int32).to(torch.int64).bitwise_left_shift_(32)
    keys |= torch.arange(xyz.shape[1], device=xyz.device)
    index = keys.topk(count, dim=2, largest=False, sorted=True).values & 0xFFFFFFFF
    return away.gather(2, index), index
