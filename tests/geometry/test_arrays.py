"""The forms without the engine: how they correct SciPy. (That all ways agree: test_dispatch.py.)"""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from shoestring.geometry import arrays

Cloud = Callable[[str, int, int], np.ndarray]


def test_order_is_that_of_float32_not_of_scipy(brute: SimpleNamespace) -> None:
    """Distances that float32 rounds to the same, in the wrong order of their numbers."""
    steps = np.float32(1) + np.arange(30, dtype=np.float32)[::-1] * np.float32(2**-23)
    xyz = np.zeros((1, 30, 3), np.float32)
    xyz[0, :, 0] = steps
    centre = np.full((1, 1, 3), 1e4, np.float32)
    for count in (1, 5, 25, 30):
        assert arrays.nearest(centre, xyz, count)[0].tolist() == brute.nearest(centre[0], xyz[0], count)


@pytest.mark.parametrize("kind", ["lattice", "copies", "denormal"])
def test_ties_at_the_border_are_searched_in_full(kind: str, cloud: Cloud, brute: SimpleNamespace) -> None:
    xyz = cloud(kind, 600, 3)[None]
    found = arrays.nearest(xyz[:, :40], xyz, 6)[0].tolist()
    assert found == brute.nearest(xyz[0, :40], xyz[0], 6)


def test_only_rows_in_doubt_are_searched_in_full(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    searched = []

    def search(centres: np.ndarray, xyz: np.ndarray, count: int) -> np.ndarray:
        searched.append(len(centres))
        return np.zeros((len(centres), count), np.int64)

    monkeypatch.setattr(arrays, "_search", search)
    xyz = cloud("normal", 2000, 0)[None]
    arrays.nearest(xyz, xyz, 16)
    assert sum(searched) == 0
    arrays.nearest(cloud("lattice", 2000, 0)[None], cloud("lattice", 2000, 0)[None], 16)
    assert sum(searched) > 0
