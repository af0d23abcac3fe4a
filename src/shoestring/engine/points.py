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
    message = native._message()
    call = native._loaded().shoestring_farthest
    named = isa.encode() if isa else None
    if call(xyz.ctypes.data, *xyz.shape[:2], count, index.ctypes.data, named, message, len(message)):
        raise BadInput(f"engine: {message.value.decode()}")
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


def _search(centres: np.ndarray, xyz: np.ndarray, radius: float, count: int, isa: str | None) -> np.ndarray:
    centres, xyz = _points(centres), _points(xyz, count)
    if len(centres) != len(xyz):
        raise BadInput(f"engine: centres of {len(centres)} clouds and points of {len(xyz)} do not go together")
    clouds, places = xyz.shape[:2]
    index = np.empty((clouds, centres.shape[1], count), np.int32)
    message = native._message()
    given = centres.ctypes.data, centres.shape[1], xyz.ctypes.data, clouds, places, radius, count, index.ctypes.data
    named = isa.encode() if isa else None
    if native._loaded().shoestring_nearest(*given, named, message, len(message)):
        raise BadInput(f"engine: {message.value.decode()}")
    return index


def _points(xyz: np.ndarray, count: int | None = None) -> np.ndarray:
    """As the library takes them, `count` of which are to be had."""
    if xyz.dtype != np.float32 or xyz.ndim != 3 or xyz.shape[2] != 3:
        raise BadInput(f"engine: points are {xyz.dtype} {list(xyz.shape)}; give float32 [B, N, 3]")
    if count is not None and not 1 <= count <= xyz.shape[1]:
        raise BadInput(f"engine: {count} of {xyz.shape[1]} points cannot be had; ask for 1 to {xyz.shape[1]}")
    return np.require(xyz, requirements=["C", "A"])
