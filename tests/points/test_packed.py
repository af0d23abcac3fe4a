"""Clouds in one file: the layout that is asked for, and what is said of any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.points.packed import read_h5, read_npz, read_parts

POINTS = np.arange(5 * 4 * 3, dtype=np.float16).reshape(5, 4, 3)
CLASSES = np.array(["chair", "table"])
LABEL = np.array([0, 1, -1, 1, 0], np.int16)


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **{"points": POINTS, "label": LABEL, "classes": CLASSES, **arrays})
    return folder / "data.npz"


def test_npz(tmp_path: Path) -> None:
    dataset = read_npz(saved(tmp_path, name=np.array(["a"] * 5)))
    assert dataset.targets == (0, 1, None, 1, 0)
    assert dataset.names == ("chair", "table")
    assert not dataset.indexed
    assert dataset.group == tuple("01234")
    np.testing.assert_array_equal(dataset[3][0], POINTS[3])
    assert read_npz(saved(tmp_path, group=np.array([7, 7, 8, 8, 9]))).group == ("7", "7", "8", "8", "9")


def test_without_names_labels_are_output_indices(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=POINTS, labels=np.array([3, 4, 0, 0, 0]))
    assert read_npz(tmp_path / "a.npz").indexed
    np.savez(tmp_path / "b.npz", points=POINTS)
    assert read_npz(tmp_path / "b.npz").targets == (None,) * 5


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"points": POINTS[0]}, r"points is float16 \[4, 3\]; give floats \[N, n, 3\]"),
        ({"points": POINTS[:, :, :2]}, "give floats"),
        ({"points": POINTS.astype(int)}, "give floats"),
        ({"points": np.full((5, 4, 3), np.nan)}, "NaN"),
        ({"label": LABEL[:4]}, r"label is int16 \[4\]; give one whole number for each of 5"),
        ({"label": LABEL.astype(float)}, "whole number"),
        ({"label": np.array([0, 0, 2, 0, 0])}, "label 2 of cloud 2 is out of range; give -1 to 1"),
        ({"classes": np.array([1, 2])}, "one text per class"),
        ({"group": np.zeros(3)}, "group"),
        ({"classes": np.array([object()] * 2)}, "plain arrays"),
    ],
)
def test_other_npz(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        read_npz(saved(tmp_path, **arrays))


def test_no_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=POINTS)
    with pytest.raises(BadInput, match="no array called points"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(BadInput, match="plain arrays"):
        read_npz(tmp_path / "b.npz")


def test_h5(tmp_path: Path) -> None:
    """As ModelNet40 (label [N, 1]) and ScanObjectNN (label [N]) are published."""
    h5py = pytest.importorskip("h5py", reason="needs shoestring[points]")
    for name, shape in (("a.h5", (5, 1)), ("b.h5", (5,))):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = POINTS.astype(np.float32)
            file["label"] = np.abs(LABEL).astype(np.uint8).reshape(shape)
    dataset = read_h5([tmp_path / "a.h5", tmp_path / "b.h5"], ["chair", "table"])
    assert dataset.targets == (0, 1, 1, 1, 0) * 2
    np.testing.assert_array_equal(dataset[8][0], POINTS[3])
    assert read_h5([tmp_path / "b.h5"]).indexed
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["points"] = POINTS
    (tmp_path / "d.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:600])
    for broken in ("c.h5", "d.h5"):
        with pytest.raises(BadInput, match="does not hold data and label as HDF5"):
            read_h5([tmp_path / broken])


def test_h5_of_a_hostile_size(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs shoestring[points]")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (10**6, 2048, 3), "f4", chunks=(1, 2048, 3))  # 24 GB, none of it on the disk
        file["label"] = [0]
    with pytest.raises(BadInput, match="at most"):
        read_h5([tmp_path / "a.h5"])


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(BadInput, match=r'pip install "shoestring\[points\]"'):
        read_h5([tmp_path / "a.h5"])


def test_parts(tmp_path: Path) -> None:
    assert read_parts(saved(tmp_path)) is None
    given = np.arange(20, dtype=np.int8).reshape(5, 4) - 1
    found = read_parts(saved(tmp_path, parts=given))
    assert found is not None and found.dtype == np.int64
    np.testing.assert_array_equal(found, given)
    for wrong in (given[:4], given.astype(np.float32)):
        with pytest.raises(BadInput, match=r"parts is .*; give whole numbers \[5, 4\]"):
            read_parts(saved(tmp_path, parts=wrong))
    (tmp_path / "data.npz").write_bytes(b"x")
    with pytest.raises(BadInput, match="cannot be read as plain arrays"):
        read_parts(tmp_path / "data.npz")
