"""Published data sets, on tiny ones of the same form."""

import json
from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.points.data import load_clouds
from shoestring.points.released import is_parts, parts, split_of, splits_in

TRIANGLE = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"


@pytest.fixture
def modelnet(tmp_path: Path) -> Path:
    for name in ("chair", "night_stand"):
        for split, count in (("train", 2), ("test", 1)):
            folder = tmp_path / "ModelNet40" / name / split
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{name}_{number}.off").write_text(TRIANGLE)
    return tmp_path / "ModelNet40"


def test_modelnet_of_meshes(modelnet: Path) -> None:
    assert splits_in(modelnet) == ("train", "test")
    train, test = load_clouds(modelnet / "train"), load_clouds(modelnet / "test")
    assert train.names == test.names == ("chair", "night_stand")
    assert (train.targets, test.targets) == ((0, 0, 1, 1), (0, 1))
    assert train[0][0].shape == (8192, 3)
    with pytest.raises(BadInput, match=r"holds train, test; give one of them, for example .*ModelNet40/train"):
        load_clouds(modelnet)
    with pytest.raises(BadInput, match="does not exist"):
        load_clouds(modelnet / "validation")


def test_modelnet_of_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs shoestring[points]")
    for split in ("train", "test"):
        (tmp_path / f"{split}_files.txt").write_text(f"data/modelnet40_ply_hdf5_2048/ply_data_{split}0.h5\n")
        with h5py.File(tmp_path / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = np.zeros((2, 8, 3), np.float32)
            file["label"] = np.array([[1], [0]], np.uint8)
    (tmp_path / "shape_names.txt").write_text("airplane\nbathtub\n")
    dataset = load_clouds(tmp_path / "train")
    assert (dataset.names, dataset.targets) == (("airplane", "bathtub"), (1, 0))
    with pytest.raises(BadInput, match="holds train, test"):
        load_clouds(tmp_path)
    (tmp_path / "ply_data_test0.h5").unlink()
    with pytest.raises(BadInput, match=r"names ply_data_test0\.h5; unpack"):
        load_clouds(tmp_path / "test")


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    (tmp_path / "synsetoffset2category.txt").write_text("Chair\t03001627\nBag\t02773838\n")
    (tmp_path / "train_test_split").mkdir()
    rows = "0.1 0.2 0.3 0 1 0 12.000000\n0.4 0.5 0.6 0 1 0 13.000000\n"
    for folder, name in (("03001627", "a"), ("02773838", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.txt").write_text(rows)
    listed = ["shape_data/03001627/a", "shape_data/02773838/b"]
    (tmp_path / "train_test_split" / "shuffled_train_file_list.json").write_text(json.dumps(listed))
    return tmp_path


def test_shapenet_part(shapenet: Path) -> None:
    dataset = load_clouds(shapenet / "train")
    assert (dataset.names, dataset.targets) == (("Bag", "Chair"), (1, 0))
    np.testing.assert_allclose(dataset[0][0], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    with pytest.raises(BadInput, match="holds train, val, test"):
        load_clouds(shapenet)
    with pytest.raises(BadInput, match="is not the split of ShapeNetPart"):
        load_clouds(shapenet / "test")


def test_parts(shapenet: Path) -> None:
    points, labels = parts(shapenet / "03001627" / "a.txt")
    assert labels.tolist() == [12, 13]
    assert points.dtype == np.float32
    (shapenet / "b.txt").write_text("1 2 3\n")
    with pytest.raises(BadInput, match="3 numbers a point"):
        parts(shapenet / "b.txt")
    (shapenet / "b.txt").write_text("one\n")
    with pytest.raises(BadInput, match="not a table"):
        parts(shapenet / "b.txt")


def test_what_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "chair").mkdir()
    assert splits_in(tmp_path) == ()
    assert split_of(tmp_path / "train") is None
    assert split_of(tmp_path / "absent" / "train") is None


def test_what_has_parts(shapenet: Path) -> None:
    assert is_parts(shapenet / "train")
    assert not is_parts(shapenet)
    assert not is_parts(shapenet / "03001627")
