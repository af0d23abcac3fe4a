"""What `--data` accepts of point clouds."""

from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.points.data import load_clouds

FURNITURE = Path(__file__).parents[3] / "shared" / "data" / "furniture3d" / "points2048.npz"
ROWS = "0 0 0\n1 0 0\n0 1 0\n"


def write(path: Path, text: str = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_folders_are_classes_whatever_the_files(tmp_path: Path) -> None:
    write(tmp_path / "chair" / "a.xyz")
    np.save(tmp_path / "chair" / "b.npy", np.zeros((2, 3)))
    write(tmp_path / "table" / "c.off", "OFF\n3 1 0\n" + ROWS + "3 0 1 2\n")
    write(tmp_path / "LICENCE.txt", "all of it\n")
    write(tmp_path / "chair" / "list.csv", "a\n")
    dataset = load_clouds(tmp_path)
    assert (dataset.names, dataset.targets) == (("chair", "table"), (0, 0, 1))
    assert dataset.group == ("chair/a.xyz", "chair/b.npy", "table/c.off")
    assert [len(points) for points, _ in dataset] == [3, 2, 8192]


def test_folders_of_text(tmp_path: Path) -> None:
    """Where there is nothing else, .txt and .csv are clouds."""
    write(tmp_path / "chair" / "a.txt")
    write(tmp_path / "table" / "b.csv", ROWS.replace(" ", ","))
    assert load_clouds(tmp_path).targets == (0, 1)


def test_a_table(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.xyz")
    write(tmp_path / "labels.csv", "file,label,group\na.xyz,chair,7\nb.xyz,table,7\n")
    dataset = load_clouds(tmp_path)
    assert (dataset.names, dataset.targets, dataset.group) == (("chair", "table"), (0, 1), ("7", "7"))


def test_broken_clouds_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "chair" / "a.xyz")
    write(tmp_path / "table" / "b.xyz", "broken\n")
    with pytest.warns(UserWarning, match=r"left out 1 of 2 clouds that cannot be read .*table/b\.xyz"):
        assert len(load_clouds(tmp_path)) == 1
    write(tmp_path / "chair" / "a.xyz", "")
    with pytest.raises(BadInput, match=r"none of the 2 clouds .*chair/a\.xyz"):
        load_clouds(tmp_path)


def test_clouds_without_a_label_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, points=np.zeros((3, 4, 3), np.float32), label=np.array([0, -1, 1]), classes=np.array(["a", "b"]))
    with pytest.warns(UserWarning, match="left out 1 of 3 clouds that have no label"):
        assert load_clouds(path).targets == (0, 1)
    assert load_clouds(path, unlabelled=True).targets == (0, None, 1)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist; give a folder of point clouds"):
        load_clouds(tmp_path / "absent")
    with pytest.raises(BadInput, match=r"no point cloud in .*\.ply"):
        load_clouds(tmp_path)
    with pytest.raises(BadInput, match="give the folder it lies in"):
        load_clouds(write(tmp_path / "a.xyz"))


def test_furniture() -> None:
    if not FURNITURE.is_file():
        pytest.skip("no shared data here")
    with pytest.warns(UserWarning, match="left out 449 of 679"):
        dataset = load_clouds(FURNITURE)
    assert (len(dataset), len(dataset.names)) == (230, 12)
    assert dataset[0][0].shape == (2048, 3)
