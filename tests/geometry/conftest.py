"""What the tests of this room share: difficult clouds, and brute force in NumPy that shares no code with the room."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

KINDS = ("normal", "lattice", "same", "line", "tiny", "huge", "outlier", "copies", "denormal")


def _cloud(kind: str, points: int, seed: int) -> np.ndarray:
    """float32 [points, 3]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((points, 3))
    if kind == "lattice":
        x = np.round(2 * x)
    elif kind == "same":
        x[:] = x[:1]
    elif kind == "line":
        x[:, 1:] = 0
    elif kind == "tiny":
        x *= 1e-22
    elif kind == "huge":
        x *= 1e30
    elif kind == "outlier":
        x[rng.integers(points)] = 1e12
    elif kind == "copies":
        x = x[rng.integers(0, max(1, points // 4), points)]
    elif kind == "denormal":
        x *= 1e-42
    return x.astype(np.float32)


def _squared(centre: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        d = centre - xyz
        return (d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1]) + d[:, 2] * d[:, 2]


def _farthest(xyz: np.ndarray, count: int) -> list[int]:
    picked = [0]
    near = _squared(xyz[0], xyz)
    while len(picked) < count:
        picked.append(int(np.argmax(near)))
        near = np.minimum(near, _squared(xyz[picked[-1]], xyz))
    return picked


def _nearest(centres: np.ndarray, xyz: np.ndarray, count: int) -> list[list[int]]:
    found = []
    for centre in centres:
        away = _squared(centre, xyz)
        found.append(sorted(range(len(xyz)), key=lambda i: (away[i], i))[:count])
    return found


def _within(centres: np.ndarray, xyz: np.ndarray, radius: float, count: int) -> list[list[int]]:
    limit = np.float32(radius) * np.float32(radius)
    found = _nearest(centres, xyz, count)
    return [
        [i if _squared(centre, xyz[i : i + 1])[0] <= limit else row[0] for i in row]
        for centre, row in zip(centres, found, strict=True)
    ]


@pytest.fixture(scope="session")
def kinds() -> tuple[str, ...]:
    return KINDS


@pytest.fixture(scope="session")
def cloud() -> Callable[[str, int, int], np.ndarray]:
    """cloud(kind, points, seed): float32 [points, 3]."""
    return _cloud


@pytest.fixture(scope="session")
def brute() -> SimpleNamespace:
    """brute.farthest(xyz, count), .nearest(centres, xyz, count), .within(centres, xyz, radius, count), of one cloud."""
    return SimpleNamespace(farthest=_farthest, nearest=_nearest, within=_within)
