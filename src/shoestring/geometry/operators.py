"""The operators as networks call them: one node each in a graph, whatever computes it.

`farthest`, `nearest` and `within` give indices and have no gradients; `take` has. What they compute is written down in
`reference`, who computes it in `dispatch`.
"""

from typing import Any

import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.geometry import dispatch, reference


@torch.library.custom_op("shoestring::farthest", mutates_args=())
def farthest(xyz: Tensor, count: int) -> Tensor:
    """Farthest point sampling: int64 [B, count] of points float [B, N, 3], starting with point 0. Raises BadInput
    unless 1 <= count <= N and all coordinates are finite."""
    _require("farthest", count, xyz)
    return dispatch.farthest(xyz, count)


@torch.library.custom_op("shoestring::nearest", mutates_args=())
def nearest(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    """The `count` nearest of `xyz` [B, N, 3] to each of `centres` [B, M, 3], nearest first: int64 [B, M, count].
    Raises BadInput unless 1 <= count <= N and all coordinates are finite."""
    _require("nearest", count, xyz, centres)
    return dispatch.nearest(centres, xyz, count)


@torch.library.custom_op("shoestring::within", mutates_args=())
def within(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    """Like `nearest`, but of points farther than `radius` the nearest one stands in their place."""
    _require("within", count, xyz, centres)
    if not radius >= 0:
        raise BadInput(f"within: a radius of {radius} does not work; give 0 or more")
    return dispatch.within(centres, xyz, min(radius, torch.finfo(xyz.dtype).max), count)


@torch.library.custom_op("shoestring::take", mutates_args=())
def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of `x` [B, N, C] by index int64 [B, M] or [B, M, K]: [B, M, C] or [B, M, K, C]. Gradients flow to `x`."""
    return reference.take(x, index)


@farthest.register_fake
def _(xyz: Tensor, count: int) -> Tensor:
    return xyz.new_empty((xyz.shape[0], count), dtype=torch.int64)


@nearest.register_fake
def _(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    del xyz
    return centres.new_empty((*centres.shape[:2], count), dtype=torch.int64)


@within.register_fake
def _(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    del xyz, radius
    return centres.new_empty((*centres.shape[:2], count), dtype=torch.int64)


@take.register_fake
def _(x: Tensor, index: Tensor) -> Tensor:
    return x.new_empty((*index.shape, x.shape[2]))


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    del output
    x, index = inputs
    ctx.save_for_backward(index)
    ctx.points = x.shape[1]


def _scatter(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (index,) = ctx.saved_tensors
    batch, width = gradient.shape[0], gradient.shape[-1]
    rows = index.reshape(batch, -1, 1).expand(-1, -1, width)
    summed = gradient.new_zeros(batch, ctx.points, width)
    return summed.scatter_add_(1, rows, gradient.reshape(batch, -1, width)), None


take.register_autograd(_scatter, setup_context=_keep)

FARTHEST = torch.ops.shoestring.farthest.default  # the operators themselves, as graphs and exporters know them
NEAREST = torch.ops.shoestring.nearest.default
WITHIN = torch.ops.shoestring.within.default
TAKE = torch.ops.shoestring.take.default


def _require(name: str, count: int, xyz: Tensor, centres: Tensor | None = None) -> None:
    for given in (xyz, centres):
        if given is None:
            continue
        if given.ndim != 3 or given.shape[2] != 3 or not given.is_floating_point():
            raise BadInput(f"{name}: points are {given.dtype} {list(given.shape)}; give floats [B, N, 3]")
        if len(given) != len(xyz) or given.dtype != xyz.dtype or given.device != xyz.device:
            raise BadInput(f"{name}: centres and points must be of one batch size, type and device")
        if not torch.isfinite(given).all():
            raise BadInput(f"{name}: coordinates must be finite; leave out points with NaN or infinity")
    if not 1 <= count <= xyz.shape[1]:
        raise BadInput(f"{name}: {count} of {xyz.shape[1]} points cannot be had; ask for 1 to {xyz.shape[1]}")
