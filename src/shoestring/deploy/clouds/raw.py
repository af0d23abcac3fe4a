"""What a file holds before it is a point cloud, and how much of it is read at most. A reader raises ValueError."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 2**30  # of a file, and of what is unpacked from it
MAX_POINTS = 2**24  # also of a mesh's corners
MAX_TRIANGLES = 2**22  # 300 MiB while their areas are told


@dataclass(frozen=True, eq=False)
class Mesh:
    """`vertices`: float64 [n, 3]; `triangles`: int64 [m, 3], indices of vertices."""

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]


def require_count(count: int, least_bytes: int, there: int, what: str = "points") -> int:
    """`count`, where so many things of `least_bytes` each can lie in the bytes that are `there`. A header may say
    anything: this is asked before memory is taken for it."""
    if not 0 <= count <= MAX_POINTS:
        raise ValueError(f"{count} {what}, {MAX_POINTS} at most")
    if count * least_bytes > there:
        raise ValueError(f"{count} {what} promised, the file ends before")
    return count


def whole(text: bytes | str) -> int:
    """A count in a header."""
    if not text.isdigit() or len(text) > 12:
        raise ValueError("a count in the header is no whole number")
    return int(text)
