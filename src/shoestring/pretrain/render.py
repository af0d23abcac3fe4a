"""Pictures of point clouds, made by us: what a cloud looks like from somewhere, as depth and as shade. NumPy alone.

Every point is a square of pixels; of those that fall on one pixel the nearest is seen (a z-buffer, filled from the back
to the front). Shade comes of the slope of the depth, as of a matt surface lit from the eye.
"""

import numpy as np
from numpy import ndarray

_EXTENT = 1.05  # half the side of what is seen, for clouds in the unit sphere
_RELIEF = 0.5  # how slope becomes shade: 1 / (1 + relief * slope^2) ** 0.5, slope in units of height a unit of length


def pictures(clouds: ndarray, turns: ndarray, size: int = 32, splat: int = 2) -> ndarray:
    """float32 [B, 2, size, size] of `clouds` [B, N, 3] in the unit sphere, turned by `turns` [B, 3, 3] and seen along z
    from above, without perspective. Channel 0 is nearness, from above 0 (far) to 1 (near) and 0 where nothing is;
    channel 1 shade, from 0 to 1. `splat`: pixels a side of a point."""
    depth = depths(clouds @ turns.transpose(0, 2, 1).astype(clouds.dtype), size, splat)
    seen = depth > -np.inf
    near = np.where(seen, np.clip((depth + _EXTENT) / (2 * _EXTENT), 0, 1), 0)
    return np.stack([near, np.where(seen, _shade(np.where(seen, depth, -_EXTENT), size), 0)], 1).astype(np.float32)


def depths(points: ndarray, size: int, splat: int = 1) -> ndarray:
    """float [B, size, size]: the largest z of the points [B, N, 3] on each pixel, -inf where there is none. x runs to
    the right over columns, y upwards over rows; what lies outside is left out."""
    count = len(points)
    place = (points[..., :2] / _EXTENT + 1) / 2 * size - (splat - 1) / 2
    column, row = np.floor(place[..., 0]).astype(np.int64), size - splat - np.floor(place[..., 1]).astype(np.int64)
    offsets = np.arange(splat)
    rows = row[..., None, None] + offsets[:, None]
    columns = column[..., None, None] + offsets
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    pixel = (np.arange(count)[:, None, None, None] * size + rows) * size + columns
    heights = np.broadcast_to(points[..., 2][..., None, None], pixel.shape)[inside]
    pixel = pixel[inside]
    order = np.argsort(heights, kind="stable")
    found = np.full(count * size * size, -np.inf, points.dtype)
    found[pixel[order]] = heights[order]  # of several values for one place NumPy keeps the last, which is the nearest
    return found.reshape(count, size, size)


def _shade(depth: ndarray, size: int) -> ndarray:
    """From 0 to 1, 1 where the surface faces the eye."""
    step = 2 * _EXTENT / size
    down, right = np.gradient(depth, step, axis=(1, 2))
    return 1 / np.sqrt(1 + _RELIEF * (down**2 + right**2))
