"""Who computes an operator: the engine for float32 on the CPU, NumPy and SciPy where the engine is absent, torch for
everything else. All give the same indices (`reference`)."""

import numpy as np
import torch
from torch import Tensor

from shoestring.engine import points
from shoestring.geometry import arrays, chunked


def farthest(xyz: Tensor, count: int) -> Tensor:
    """int64 [B, count] of points [B, N, 3]."""
    if not _on_processor(xyz):
        return chunked.farthest(xyz, count)
    return _tensor((points if points.available() else arrays).farthest(_array(xyz), count))


def nearest(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    """int64 [B, M, count] of points [B, N, 3] around centres [B, M, 3]."""
    if not _on_processor(xyz):
        return chunked.nearest(centres, xyz, count)
    return _tensor((points if points.available() else arrays).nearest(_array(centres), _array(xyz), count))


def within(centres: Tensor, xyz: Tensor, radius: float, count: int) -> Tensor:
    """int64 [B, M, count] of points [B, N, 3] around centres [B, M, 3]."""
    if not _on_processor(xyz):
        return chunked.within(centres, xyz, radius, count)
    return _tensor((points if points.available() else arrays).within(_array(centres), _array(xyz), radius, count))


def _on_processor(xyz: Tensor) -> bool:
    return xyz.device.type == "cpu" and xyz.dtype == torch.float32


def _array(xyz: Tensor) -> np.ndarray:
    return np.ascontiguousarray(xyz.detach().numpy())


def _tensor(index: np.ndarray) -> Tensor:
    return torch.from_numpy(index.astype(np.int64, copy=False))
