"""Numbers written as text: `.xyz`, `.txt`, `.csv`, `.pts`, `.asc`, and the text parts of other formats."""

import io
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from shoestring.deploy.clouds.raw import MAX_POINTS

_PREAMBLE = 32  # lines at most before the first point: a heading, a count, remarks
_SEPARATORS = bytes.maketrans(b",;", b"  ")


def rows(data: bytes) -> NDArray[np.float64]:
    """[n, 3]: a point a line, x y z first, separated by blanks, tabs, commas or semicolons. What is beside them is left
    out, and so are lines before the first point."""
    if b"\0" in data[:4096]:
        raise ValueError("binary, not text")
    stream = io.BytesIO(data.translate(_SEPARATORS))
    for _ in range(_PREAMBLE):
        start = stream.tell()
        if _is_point(stream.readline()):
            stream.seek(start)
            return numbers(stream, (0, 1, 2))
    raise ValueError("no line of three numbers")


def numbers(lines: Iterable[bytes], columns: Sequence[int], count: int | None = None) -> NDArray[np.float64]:
    """[count, len(columns)] of the next `count` lines that are not blank; None: of all. Takes no line more."""
    if count == 0:
        return np.empty((0, len(columns)))
    filled = (line for line in lines if line.strip() and not line.startswith(b"#"))
    first = next(filled, None)
    if first is None:
        raise ValueError("the file ends before its points")
    found = np.loadtxt(
        chain([first], filled),
        np.float64,
        comments="#",
        usecols=columns,
        max_rows=MAX_POINTS + 1 if count is None else count,
        ndmin=2,
        encoding="latin1",
    )
    if len(found) > MAX_POINTS:
        raise ValueError(f"more than {MAX_POINTS} points")
    if count is not None and len(found) < count:
        raise ValueError(f"{count} lines promised, {len(found)} there")
    return found


def polygons(lines: Iterable[bytes]) -> NDArray[np.int64]:
    """Triangles [m, 3] of lines "n a b c ...", each polygon cut into a fan around its first corner."""
    kept = [line for line in lines if line.strip()]
    if not kept:
        return np.empty((0, 3), np.int64)
    first = np.loadtxt(kept, np.float64, comments="#", usecols=(0, 1, 2, 3), ndmin=2, encoding="latin1")
    if (first[:, 0] == 3).all():
        return indices(first[:, 1:])
    fans: list[tuple[int, int, int]] = []
    for line in kept:
        count, *corners = line.split()
        fans += fan([int(corner) for corner in corners[: int(count)]])
    return np.array(fans, np.int64).reshape(-1, 3)


def fan(corners: Sequence[int]) -> list[tuple[int, int, int]]:
    return [(corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1)]


def indices(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """As whole numbers; what is none becomes an index that no vertex has."""
    fine = np.isfinite(values) & (np.abs(values) < 2**31)
    return np.where(fine, values, -1).astype(np.int64)


def _is_point(line: bytes) -> bool:
    try:
        return len([float(word) for word in line.split()[:3]]) == 3
    except ValueError:
        return False
