"""What the operators compute, in plain torch on any device, with nothing done for speed: the oracle.

Distances are squared, in the tensor's own type, summed as (dx*dx + dy*dy) + dz*dz without fused steps, so that every
implementation can give the same indices; of equal distances the lower index comes first.
"""

import torch
from torch import Tensor


def farthest(xyz: Tensor, count: int) -> Tensor:
    """Farthest point sampling (Eldar et al. 1997): int64 [B, count] of points [B, N, 3], the first being 0, each next
    one the farthest from all before it."""
    near = torch.full(xyz.shape[:2], torch.inf, dtype=xyz.dtype, device=xyz.device)
    last = torch.zeros(len(xyz), dtype=torch.int64, device=xyz.device)
    picked = []
    for _ in range(count):
        picked.append(last)
        centre = xyz[torch.arange(len(xyz), device=xyz.device), last]
        near = torch.minimum(near, _squared(xyz - centre[:, None]))
        last = _first_largest(near)
    return torch.stack(picked, 1)


def nearest(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    """The `count` nearest of `xyz` [B, N, 3] to each of `centres` [B, M, 3], nearest first: int64 [B, M, count]."""
    return distances(centres, xyz).sort(dim=2, stable=True).indices[..., :count].contiguous()


def within(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    """Ball query (PointNet++, arXiv 1706.02413, section 3.3): like `nearest`, but of points farther than `radius` the
    nearest one stands in their place: int64 [B, M, count]."""
    squared = distances(centres, xyz)
    far, index = squared.sort(dim=2, stable=True)
    far, index = far[..., :count], index[..., :count]
    limit = torch.tensor(radius, dtype=xyz.dtype, device=xyz.device).square()
    return torch.where(far <= limit, index, index[..., :1])


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of `x` [B, N, C] by index [B, ...]: [B, ..., C]."""
    batch = torch.arange(len(x), device=x.device).reshape(-1, *[1] * (index.ndim - 1))
    return x[batch, index]


def interpolate(x: Tensor, xyz: Tensor, centres: Tensor) -> Tensor:
    """PointNet++, equation 2: features [B, M, C] at `centres` from `x` [B, N, C] at `xyz`, by all distances."""
    near = distances(centres, xyz).sort(dim=2, stable=True)
    weights = 1 / (near.values[..., :3] + 1e-8)
    weights = weights / weights.sum(2, keepdim=True)
    return (weights[..., None] * take(x, near.indices[..., :3])).sum(2)


def voxels(xyz: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of points [N, 3]: keys [V, 3], counts [V], inverse [N], means [V, 3]."""
    cells = torch.floor(xyz / size).to(torch.int64)
    keys, inverse, counts = cells.unique(dim=0, return_inverse=True, return_counts=True)
    own = inverse[None] == torch.arange(len(keys), device=xyz.device)[:, None]
    return keys, counts, inverse, (own[..., None] * xyz).sum(1) / counts[:, None]


def distances(centres: Tensor, xyz: Tensor) -> Tensor:
    """Squared, [B, M, N]."""
    return _squared(centres[:, :, None] - xyz[:, None])


def _squared(difference: Tensor) -> Tensor:
    dx, dy, dz = difference.unbind(-1)
    return (dx * dx + dy * dy) + dz * dz


def _first_largest(values: Tensor) -> Tensor:
    """`argmax` does not say which of equal values it takes."""
    places = torch.arange(values.shape[1], device=values.device)
    return torch.where(values == values.amax(1, keepdim=True), places, values.shape[1]).amin(1)
