"""One file to one point cloud, whatever its format. The file may come from a stranger."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shoestring.core.errors import BadInput
from shoestring.core.schema import one_line
from shoestring.deploy.clouds.arrays import floats, npy, npz
from shoestring.deploy.clouds.las import classified, las
from shoestring.deploy.clouds.mesh import SAMPLES, obj, off, stl, surface
from shoestring.deploy.clouds.pcd import pcd
from shoestring.deploy.clouds.ply import ply
from shoestring.deploy.clouds.raw import MAX_BYTES, Mesh
from shoestring.deploy.clouds.text import rows

Found = TypeVar("Found")
FARTHEST = 1e12  # a coordinate beyond is no measurement
_READERS: dict[str, Callable[[bytes], NDArray[np.floating] | Mesh]] = {
    ".ply": ply,
    ".pcd": pcd,
    ".npy": npy,
    ".npz": npz,
    ".bin": floats,
    ".off": off,
    ".obj": obj,
    ".stl": stl,
    **dict.fromkeys((".xyz", ".txt", ".csv", ".pts", ".asc"), rows),
    **dict.fromkeys((".las", ".laz"), las),
}
SUFFIXES = frozenset(_READERS)
# What a folder is searched for: text in it is as likely a list or a licence.
IN_FOLDERS = SUFFIXES - {".csv", ".txt"}


def read_cloud(
    path: str | Path, *, columns: int | None = None, samples: int = SAMPLES, seed: int = 0
) -> NDArray[np.floating]:
    """The points at `path`, float32 or float64 [n, 3] in the file's units, in its order.

    Points with a coordinate that is NaN, infinite or beyond 1e12 are left out. Of a mesh: `samples` points on its
    surface (`seed`: which). `columns`: numbers a point in a `.bin`, which does not say. Raises BadInput when the file
    cannot be read, is larger than 1 GiB, or holds no point."""
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: not a point cloud by its name; give one of {' '.join(sorted(SUFFIXES))}")
    data = _bytes(path)
    found = _parsed(path, lambda: floats(data, columns) if reader is floats else reader(data))
    points = _parsed(path, lambda: surface(found, samples, seed)) if isinstance(found, Mesh) else found
    fine = finite(points)
    if not len(fine):
        raise BadInput(f"{path}: holds no point")
    return fine


def read_classified(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The points of a `.las` or `.laz`, float64 [n, 3], as `read_cloud` gives them, and the classes that the file has
    of them, int64 [n] (ASPRS LAS 1.4; 0: never classified). Raises BadInput as `read_cloud`."""
    path = Path(path)
    data = _bytes(path)
    fine = finite(_parsed(path, lambda: classified(data)))
    if not len(fine):
        raise BadInput(f"{path}: holds no point")
    return fine[:, :3].astype(np.float64), fine[:, 3].astype(np.int64)


def _parsed(path: Path, parse: Callable[[], Found]) -> Found:
    """What `parse` makes of the file at `path`, whatever it raises becoming one line."""
    try:
        with np.errstate(all="ignore"):  # what overflows is no point
            return parse()
    except ModuleNotFoundError as error:
        raise BadInput(f'{path}: reading it needs {error.name}; pip install "shoestring[points]"') from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # readers raise many types on broken files; a panic in Rust is no Exception
        raise BadInput(f"{path}: not a readable {path.suffix[1:]} file ({_reason(error)})") from None


def finite(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """The rows of [n, 3 or more] whose first three are numbers below 1e12; the array itself when all are."""
    with np.errstate(invalid="ignore"):
        fine = (np.abs(points[:, :3]) < FARTHEST).all(axis=1)
    return points if fine.all() else points[fine]


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path}: larger than {MAX_BYTES} bytes; cut or thin it first")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None


def _reason(error: BaseException) -> str:
    return one_line(error)[:120] or type(error).__name__
