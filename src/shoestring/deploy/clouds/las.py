"""`.las`, `.laz`: airborne and terrestrial lidar, by laspy (with lazrs for `.laz`)."""

import io

import numpy as np
from numpy.typing import NDArray

from shoestring.deploy.clouds.raw import require_count

_RATIO = 1024  # points that a compressed byte may stand for, generously


def las(data: bytes) -> NDArray[np.float64]:
    """[n, 3] in the file's units, scaled and offset. Raises ModuleNotFoundError without laspy."""
    return _points(data)[:, :3]


def classified(data: bytes) -> NDArray[np.float64]:
    """[n, 4]: the same, and the class of each point as the file numbers it (ASPRS LAS 1.4: 0 never classified, 2
    ground, 5 high vegetation, 6 building ...)."""
    return _points(data)


def _points(data: bytes) -> NDArray[np.float64]:
    import laspy

    with laspy.open(io.BytesIO(data), closefd=False) as reader:
        packed = reader.header.are_points_compressed
        least = 1 if packed else reader.header.point_format.size
        require_count(reader.header.point_count, least, len(data) * (_RATIO if packed else 1))
        found = reader.read()
        return np.column_stack([np.asarray(found.xyz, np.float64), np.asarray(found.classification, np.float64)])
