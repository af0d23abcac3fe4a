"""Random rotations, for what learns and for what judges: about the vertical, whichever axis that is, or any."""

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput


def rotations(kind: str, count: int, random: np.random.Generator, up: int = 1) -> ndarray:
    """`count` random rotation matrices float64 [count, 3, 3], uniform on the circle about axis `up` ("z", the vertical)
    or on all rotations ("SO3": unit quaternions of normal numbers, Shoemake 1992). Raises BadInput for another
    `kind`."""
    if kind == "SO3":
        quaternions = random.standard_normal((count, 4))
        w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    elif kind == "z":
        half = random.uniform(0, np.pi, count)
        quaternion = np.zeros((4, count))
        quaternion[0], quaternion[1 + up] = np.cos(half), np.sin(half)
        w, x, y, z = quaternion
    else:
        raise BadInput(f"rotation: {kind!r} is not known; write z or SO3")
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
