"""Canonical frames: a cloud seen along its own axes, so that what is computed of it does not depend on how it lay.

Principal axes as frames, and the average over them: frame averaging (Puny et al. 2021, arXiv 2110.03336, section 3 and
proposition 1, here for rotations: of the eight signs of the three axes, the four that are rotations). Which of the four
comes first is decided by the cloud's third moments, so that one pass is invariant as well. Axes of equal variance and
signs without skewness are undecided; there, only what does not depend on the choice is invariant.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# The rotations by half a turn about the axes, and none.
_SIGNS = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))


def frames(xyz: Tensor) -> Tensor:
    """The four frames [B, 4, 3, 3] of `xyz` [B, N, 3]: rotations whose rows are axes, that of most variance first.

    The first frame is decided by the cloud: along the two axes that are most skewed the third moment is positive, the
    remaining one makes the frame right-handed. That axis is often normal to the mirror plane of an object, where the
    third moment would be noise.
    """
    points = _centred(xyz).double()
    _, vectors = torch.linalg.eigh(points.transpose(1, 2) @ points)
    axes = vectors.flip(2).transpose(1, 2)  # rows, most variance first
    along = points @ axes.transpose(1, 2)
    skew = along.pow(3).mean(1) / along.square().mean(1).pow(1.5).clamp_min(torch.finfo(torch.float64).tiny)
    signs = torch.where(skew < 0, -1.0, 1.0).to(skew)
    turns = torch.linalg.det(signs.unsqueeze(2) * axes).sign()
    least = torch.nn.functional.one_hot(skew.abs().argmin(1), 3).to(skew)
    signs = signs * (1 - least + least * turns.unsqueeze(1))
    first = signs.unsqueeze(2) * axes
    return (torch.tensor(_SIGNS, dtype=first.dtype, device=first.device)[:, :, None] * first.unsqueeze(1)).to(xyz)


def canonical(xyz: Tensor) -> Tensor:
    """`xyz` [B, N, 3] about its mean and in the first of its `frames`: the same for every rotation and shift."""
    return _centred(xyz) @ frames(xyz)[:, 0].transpose(1, 2)


def in_frames(xyz: Tensor) -> Tensor:
    """`xyz` [B, N, 3] about its mean in each of its `frames`: [B, 4, N, 3]. A rotation only exchanges the four."""
    return _centred(xyz).unsqueeze(1) @ frames(xyz).transpose(2, 3)


def averaged(function: Callable[[Tensor], Tensor], xyz: Tensor) -> Tensor:
    """The mean over the four frames of `function` ([B, N, 3] to [B, ...]) of `xyz` (arXiv 2110.03336, eq. 3)."""
    views = in_frames(xyz)
    return function(views.flatten(0, 1)).unflatten(0, views.shape[:2]).mean(1)


def _centred(xyz: Tensor) -> Tensor:
    return xyz - xyz.mean(1, keepdim=True)
