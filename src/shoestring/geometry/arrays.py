"""The operators in NumPy and SciPy, for processors where the engine was not built: float32 clouds [B, N, 3]."""

import numpy as np

# SciPy measures in double precision. What float32 makes of a squared distance is within five roundings of it, and where
# squares underflow within three of the smallest steps; either is doubled here, for safety.
_RELATIVE, _ABSOLUTE = 10 * 2.0**-24, 6 * 2.0**-149
_SPARE = 8  # neighbours asked for beyond the count, so that ties at the border are rare
_ELEMENTS = 1 << 22  # distances at once


def farthest(xyz: np.ndarray, count: int) -> np.ndarray:
    """Farthest point sampling, coordinate by coordinate: int64 [B, count]."""
    return np.stack([_farthest(cloud, count) for cloud in xyz]) if len(xyz) else np.empty((0, count), np.int64)


def nearest(centres: np.ndarray, xyz: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest to each of `centres` [B, M, 3]: int64 [B, M, count]."""
    found = np.empty((*centres.shape[:2], count), np.int64)
    for out, own, cloud in zip(found, centres, xyz, strict=True):
        out[:] = _nearest(own, cloud, count)
    return found


def within(centres: np.ndarray, xyz: np.ndarray, radius: float, count: int) -> np.ndarray:
    """Like `nearest`, but of points farther than `radius` the nearest one stands in their place."""
    index = nearest(centres, xyz, count)
    with np.errstate(over="ignore"):
        limit = np.square(np.float32(radius))
    for own, cloud, found in zip(centres, xyz, index, strict=True):
        far = _squared(own[:, None], cloud[found]) > limit
        np.copyto(found, found[:, :1], where=far)
    return index


def _farthest(cloud: np.ndarray, count: int) -> np.ndarray:
    x, y, z = np.ascontiguousarray(cloud.T)
    near = np.full(len(cloud), np.inf, np.float32)
    away, square = np.empty_like(near), np.empty_like(near)
    index = np.zeros(count, np.int64)
    with np.errstate(over="ignore"):
        for k in range(1, count):
            last = index[k - 1]
            np.square(np.subtract(x, x[last], out=away), out=away)
            away += np.square(np.subtract(y, y[last], out=square), out=square)
            away += np.square(np.subtract(z, z[last], out=square), out=square)
            index[k] = np.minimum(near, away, out=near).argmax()
    return index


def _nearest(centres: np.ndarray, cloud: np.ndarray, count: int) -> np.ndarray:
    """By a kd-tree, corrected: its candidates are put in order by float32 distance and index. Rows whose last neighbour
    is so near the border that a point outside might come first are searched in full."""
    from scipy.spatial import cKDTree  # only here: it takes a while to import

    asked = min(count + _SPARE, len(cloud))
    away, index = cKDTree(cloud).query(centres, np.arange(1, asked + 1))
    squared = _squared(centres[:, None], cloud[index])
    order = np.lexsort((index, squared), axis=1)[:, :count]
    found = np.take_along_axis(index, order, 1)
    if asked < len(cloud):
        last = np.take_along_axis(squared, order[:, -1:], 1)[:, 0]
        unsure = np.flatnonzero(~(last < away[:, -1] ** 2 * (1 - _RELATIVE) - _ABSOLUTE))
        rows = max(1, _ELEMENTS // len(cloud))
        for start in range(0, len(unsure), rows):
            some = unsure[start : start + rows]
            found[some] = _search(centres[some], cloud, count)
    return found


def _search(centres: np.ndarray, cloud: np.ndarray, count: int) -> np.ndarray:
    """By all distances. They are not negative, so their bits are in their order: keys of bits and index are exact."""
    bits = _squared(centres[:, None], cloud[None]).view(np.uint32).astype(np.uint64)
    keys = (bits << np.uint64(32)) | np.arange(len(cloud), dtype=np.uint64)
    least = np.sort(np.partition(keys, count - 1, axis=1)[:, :count], axis=1)
    return (least & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        away = a - b
        np.square(away, out=away)
        return (away[..., 0] + away[..., 1]) + away[..., 2]
