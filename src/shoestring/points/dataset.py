"""Where point clouds come from: files, and arrays of many; read when they are looked at."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.clouds.read import read_cloud


@dataclass(frozen=True)
class CloudFile:
    """A file that `deploy.clouds.read` reads; of a mesh always the same points."""

    path: Path

    def open(self) -> np.ndarray:
        """Float [n, 3] in the file's units."""
        return read_cloud(self.path)

    def content(self) -> bytes:
        return self.path.read_bytes()

    def is_whole(self) -> bool:
        try:
            read_cloud(self.path)
        except BadInput:
            return False
        return True


@dataclass(frozen=True, eq=False)
class ArrayCloud:
    """One of many clouds of equal size, float [N, n, 3 or more]."""

    clouds: np.ndarray
    index: int

    def open(self) -> np.ndarray:
        return self.clouds[self.index, :, :3].astype(np.float32)

    def content(self) -> bytes:
        return self.clouds[self.index].tobytes()
