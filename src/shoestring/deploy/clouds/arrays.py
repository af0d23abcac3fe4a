"""Plain arrays: `.npy`, `.npz` and headless float32 (`.bin`)."""

import io
import math
import zipfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from shoestring.deploy.clouds.raw import MAX_BYTES, MAX_POINTS

_KEYS = ("points", "xyz", "pos", "coords")
_WIDEST = 64  # columns


def npy(data: bytes) -> NDArray[np.floating]:
    """[n, 3] of an array [n, 3 or more]."""
    return columns(read_array(io.BytesIO(data)))


def npz(data: bytes) -> NDArray[np.floating]:
    """[n, 3] of the array that is called points, xyz, pos or coords, or that is the only one."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        named = [f"{key}.npy" for key in _KEYS if f"{key}.npy" in names] or (names if len(names) == 1 else [])
        if not named:
            raise ValueError(f"no array is called {', '.join(_KEYS)}")
        with archive.open(named[0]) as stream:
            return columns(read_array(stream))


def floats(data: bytes, width: int | None = None) -> NDArray[np.float32]:
    """[n, 3] of little-endian float32 without a header, `width` a point: x y z first. None: 4 (KITTI: reflectance) or 6
    (SUN RGB-D: colour), whichever leaves nothing over and has all but x y z in 0..1; 4 when neither has."""
    if width is not None and not 3 <= width <= _WIDEST:
        raise ValueError(f"{width} numbers a point")
    for guess in (4, 6) if width is None else (width,):
        if not len(data) % (4 * guess):
            table = np.frombuffer(data, "<f4").reshape(-1, guess)
            if width is not None or ((table[:, 3:] >= 0) & (table[:, 3:] <= 1)).all():
                return columns(table)
    if width is None and not len(data) % 16:
        return columns(np.frombuffer(data, "<f4").reshape(-1, 4))
    raise ValueError(f"{len(data)} bytes are no rows of {width or '4 or 6'} float32")


def read_array(stream: IO[bytes]) -> NDArray[np.generic]:
    """The array of a `.npy` stream. The header is believed only as far as there are bytes, and never unpickled."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"version {version} of the format")
    if dtype.hasobject or any(axis < 0 for axis in shape):
        raise ValueError("no plain array")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise ValueError(f"an array of {size} bytes, {MAX_BYTES} at most")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("the file ends before its array")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def columns(table: NDArray[np.generic]) -> NDArray[np.floating]:
    """The first three of an array [n, 3 or more] of numbers; float64 stays what it is, all else becomes float32."""
    if table.ndim != 2 or not 3 <= table.shape[1] <= _WIDEST or table.dtype.kind not in "fiu":
        raise ValueError(f"{table.dtype} {list(table.shape)}, not numbers [n, 3 or more]")
    if len(table) > MAX_POINTS:
        raise ValueError(f"{len(table)} points, {MAX_POINTS} at most")
    return table[:, :3].astype(np.float64 if table.dtype.itemsize >= 4 and table.dtype != np.float32 else np.float32)
