"""Sampling and neighbours of points on the processor (`native/points.h`), cloud after cloud in one thread.

The indices are those of the plain loops in `shoestring.geometry.reference`, to the last one. Coordinates are finite.
"""

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.engine import native

_NO_RADIUS = -1.0


def available() -> bool:
    """Whether the library is here; `native.why_absent` says why not."""
    return native.available()


def farthest(xyz: np.ndarray, count: int, isa: str | None = None) -> np.ndarray:
    """Farthest point sampling: int32 [B, count] of points float32 [B, N, 3], starting with point 0. `isa`: one of
    `native.isas()`, else the best. Raises BadInput."""
    xyz = _points(xyz, count)
    index = np.empty((len(xyz), count), np.int32)
    _call("farthest", xyz.ctypes.data, *xyz.shape[:2], count, index.ctypes.data, _name(isa))
    return index


def nearest(centres: np.ndarray, xyz: np.ndarray, count: int, isa: str | None = None) -> np.ndarray:
    """The `count` nearest of `xyz` [B, N, 3] to each of `centres` [B, M, 3], nearest first, of equally near ones the
    lower index: int32 [B, M, count]. Raises BadInput."""
    return _search(centres, xyz, _NO_RADIUS, count, isa)


def within(centres: np.ndarray, xyz: np.ndarray, radius: float, count: int, isa: str | None = None) -> np.ndarray:
    """Like `nearest`, but of points farther than `radius` >= 0 the nearest one stands in their place."""
    if not radius >= 0:
        raise BadInput(f"engine: a radius of {radius} does not work; give 0 or more")
    return _search(centres, xyz, radius, count, isa)


def take(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows of `x` [B, N, C], of any type, by int32 index [B, M]: [B, M, C]. Raises BadInput."""
    if x.ndim != 3 or index.ndim != 2 or len(x) != len(index) or index.dtype != np.int32:
        raise BadInput(
            f"engine: rows of {list(x.shape)} by {index.dtype} {list(index.shape)}; give [B, N, C] and int32 [B, M]"
        )
    x, index = (np.require(given, requirements=["C", "A"]) for given in (x, index))
    out = np.empty((*index.shape, x.shape[2]), x.dtype)
    given = x.ctypes.data, *x.shape[:2], x.shape[2] * x.itemsize, index.ctypes.data, index.shape[1], out.ctypes.data
    _call("take", *given)
    return out


def interpolate(x: np.ndarray, xyz: np.ndarray, centres: np.ndarray, isa: str | None = None) -> np.ndarray:
    """Features [B, M, C] at `centres` [B, M, 3] from features `x` float32 [B, N, C] of the points `xyz` [B, N, 3]: of
    the three nearest (fewer where N < 3), weighted with 1 / (squared distance + 1e-8) over the sum of the weights
    (PointNet++, arXiv 1706.02413, equation 2 with p = 2). Raises BadInput."""
    centres, xyz = _points(centres), _points(xyz, 1)
    if x.dtype != np.float32 or x.ndim != 3 or x.shape[:2] != xyz.shape[:2] or len(centres) != len(xyz):
        raise BadInput(
            f"engine: features {x.dtype} {list(x.shape)} of points {list(xyz.shape)} at {list(centres.shape)} do not "
            "go together; give float32 [B, N, C], [B, N, 3] and [B, M, 3]"
        )
    x = np.require(x, requirements=["C", "A"])
    out = np.empty((*centres.shape[:2], x.shape[2]), np.float32)
    around = centres.ctypes.data, centres.shape[1], xyz.ctypes.data, *xyz.shape[:2]
    _call("interpolate", x.ctypes.data, x.shape[2], *around, out.ctypes.data, _name(isa))
    return out


def _search(centres: np.ndarray, xyz: np.ndarray, radius: float, count: int, isa: str | None) -> np.ndarray:
    centres, xyz = _points(centres), _points(xyz, count)
    if len(centres) != len(xyz):
        raise BadInput(f"engine: centres of {len(centres)} clouds and points of {len(xyz)} do not go together")
    index = np.empty((*centres.shape[:2], count), np.int32)
    around = centres.ctypes.data, centres.shape[1], xyz.ctypes.data, *xyz.shape[:2]
    _call("nearest", *around, radius, count, index.ctypes.data, _name(isa))
    return index


def _name(isa: str | None) -> bytes | None:
    return isa.encode() if isa else None


def _call(name: str, *given: object) -> None:
    message = native._message()
    if getattr(native._loaded(), f"shoestring_{name}")(*given, message, len(message)):
        raise BadInput(f"engine: {message.value.decode()}")


def _points(xyz: np.ndarray, count: int | None = None) -> np.ndarray:
    """As the library takes them, `count` of which are to be had."""
    if xyz.dtype != np.float32 or xyz.ndim != 3 or xyz.shape[2] != 3:
        raise BadInput(f"engine: points are {xyz.dtype} {list(xyz.shape)}; give float32 [B, N, 3]")
    if count is not None and not 1 <= count <= xyz.shape[1]:
        raise BadInput(f"engine: {count} of {xyz.shape[1]} points cannot be had; ask for 1 to {xyz.shape[1]}")
    return np.require(xyz, requirements=["C", "A"])
