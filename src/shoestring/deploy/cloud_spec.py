"""Preprocessing of point clouds: which points a network is shown, and where and how large they are.

    {"kind": "points", "points": 1024, "centre": "mean", "scale": "sphere", "up": "y"}

`points`: how many; `centre`: what becomes the origin, the points' mean or the middle of their bounding box (null:
nothing is moved); `scale`: what becomes 1, the distance of the farthest point ("sphere"), half the longest side of the
bounding box ("box") or so many of the file's units (a number; null: 1). `up`: the axis that points up, "y" or "z", or
null where any may; nothing is turned, training turns about it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shoestring.core.errors import BadInput
from shoestring.deploy.clouds.raw import MAX_POINTS
from shoestring.deploy.clouds.read import finite, read_cloud

Kind = TypeVar("Kind", bound=np.generic)
KEYS = frozenset(("kind", "points", "centre", "scale", "up"))
MOST = 2**20  # points of a network input
_SORTED = 2**17  # points at most that are put in order; of more, one of so many
_BITS = 21  # of a Morton code, an axis
_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def check_points_spec(spec: Mapping[str, Any]) -> None:
    """Raises BadInput unless the values of a spec with KEYS can be used."""
    points, scale = spec["points"], spec["scale"]
    if type(points) is not int or not 1 <= points <= MOST:
        raise BadInput(f"preprocess: points {_short(points)} is not a whole number in 1..{MOST}")
    if spec["centre"] not in ("mean", "box", None):
        raise BadInput(f"preprocess: centre {_short(spec['centre'])} is unknown; known are mean, box and null")
    number = type(scale) in (int, float) and 1e-9 <= scale <= 1e9
    if not number and not (scale is None or (isinstance(scale, str) and scale in ("sphere", "box"))):
        raise BadInput(f"preprocess: scale {_short(scale)} is unknown; known are sphere, box, null and numbers")
    if spec["up"] not in ("y", "z", None):
        raise BadInput(f"preprocess: up {_short(spec['up'])} is unknown; known are y, z and null")


def cloud(given: Any) -> NDArray[np.floating]:
    """What `preprocess` takes for a point cloud: float [n, 3], all finite, of a path or a float array [n, 3 or more],
    x y z first. Raises BadInput when it is none."""
    if isinstance(given, str | Path):
        return read_cloud(given)
    if not isinstance(given, np.ndarray) or given.dtype.kind != "f" or given.ndim != 2 or given.shape[1] < 3:
        what = f"{given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else f"a {type(given).__name__}"
        raise BadInput(f"preprocess: cannot read {what}; give a path or a float array [n, 3]")
    if len(given) > MAX_POINTS:
        raise BadInput(f"preprocess: {len(given)} points; give {MAX_POINTS} at most")
    fine = finite(given[:, :3])
    if not len(fine):
        raise BadInput("preprocess: no point whose coordinates are numbers; give at least one")
    return fine


def arranged(spec: Mapping[str, Any], given: Any) -> NDArray[np.float32]:
    """float32 [points, 3]: the points that a network is shown of `cloud(given)`."""
    return placed(spec, chosen(ordered(cloud(given)), spec["points"]))


def ordered(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """The points [n, 3] along a Z-order curve through their bounding box (Morton 1966): neighbours on it are near each
    other, so that equal steps along it leave out no region. Whatever order a file has them in does not matter, unless
    there are more than 131,072, of which one of so many is taken, at fixed irregular places."""
    return points[order(points)]


def order(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """The indices that `ordered` takes, for what belongs to the points."""
    kept = np.arange(len(points))
    if len(points) > _SORTED:
        step = len(points) / _SORTED
        kept = ((np.arange(_SORTED) + _irregular(_SORTED)) * step).astype(np.int64)
        points = points[kept]
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    side = max(float((high - low).max()), np.finfo(np.float64).tiny)
    cells = ((points - low) / side * (2**_BITS - 1)).astype(np.uint64)
    return kept[np.argsort(_interleaved(cells), kind="stable")]


def chosen(points: NDArray[Kind], count: int, draws: NDArray[np.floating] | None = None) -> NDArray[Kind]:
    """[count, ...] of `ordered` points, or of their `order`: one of each of `count` equal parts of the curve, the
    middle one, or where `draws` [count] in [0, 1) say; of fewer points than `count`, each about equally often."""
    places = (np.arange(count) + (0.5 if draws is None else draws)) * (len(points) / count)
    return points[places.astype(np.int64).clip(max=len(points) - 1)]


def placed(spec: Mapping[str, Any], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Moved and scaled as the spec says, float32 [n, 3]. Computed in float64: coordinates of a map have six digits
    before the point, and what matters behind it."""
    found = points.astype(np.float64)
    low, high = found.min(axis=0), found.max(axis=0)
    if spec["centre"] is not None:
        found -= found.mean(axis=0) if spec["centre"] == "mean" else (low + high) / 2
    unit = spec["scale"]
    if unit == "sphere":
        unit = float(np.linalg.norm(found, axis=1).max())
    elif unit == "box":
        unit = float((high - low).max()) / 2
    found /= unit or 1.0  # null, or all points are one
    return np.ascontiguousarray(found, np.float32)


def _interleaved(cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Morton codes of [n, 3]: the bits of x, y and z in turn."""
    code = np.zeros(len(cells), np.uint64)
    for axis in range(3):
        bits = cells[:, axis]
        for shift, mask in _SPREAD:
            bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
        code |= bits << np.uint64(axis)
    return code


def _irregular(count: int) -> NDArray[np.float64]:
    """[count] in [0, 1): the same everywhere and always (the golden ratio's sequence)."""
    return np.asarray((np.arange(count) * 0.618033988749895) % 1)


def _short(value: Any) -> str:
    return repr(value)[:60]
