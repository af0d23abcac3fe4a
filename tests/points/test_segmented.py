"""Clouds with classes of their points: every shown point has the class that its file has of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.points.data import load_clouds
from shoestring.points.segmented import load_segmented, tiles
from shoestring.points.stacked import stacked


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    """Four shapes of two categories; the part of a point is told by where it is."""
    rng = np.random.default_rng(0)
    (tmp_path / "synsetoffset2category.txt").write_text("Chair\t03001627\nBag\t02773838\n")
    (tmp_path / "train_test_split").mkdir()
    listed = []
    for folder, first in (("03001627", 12), ("02773838", 4)):
        (tmp_path / folder).mkdir()
        for name, count in (("a", 40), ("b", 25)):
            xyz = rng.normal(size=(count, 3))
            table = np.column_stack([xyz, np.zeros((count, 3)), first + (xyz[:, 1] > 0)])
            np.savetxt(tmp_path / folder / f"{name}.txt", table, "%.6f")
            listed.append(f"shape_data/{folder}/{name}")
    (tmp_path / "train_test_split" / "shuffled_val_file_list.json").write_text(json.dumps(listed))
    return tmp_path


def test_shapenet_part(shapenet: Path) -> None:
    found = load_segmented(shapenet / "val", 30)
    assert found is not None and found.categories is not None
    assert found.categories.tolist() == [1, 1, 0, 0]  # Bag comes first
    assert len(set(found.groups.tolist())) == 4
    dataset = load_clouds(shapenet / "val")
    clouds, _ = stacked(dataset, 30)
    # The points that other protocols are shown; `parts` reads in float32, rounding once more.
    np.testing.assert_allclose(found.clouds, clouds, atol=1e-6)
    for cloud, labels, (raw, _), category in zip(found.clouds, found.labels, dataset, found.categories, strict=True):
        # Back where they were: the shift that brings one point onto one of the file's brings all.
        shifts = raw - cloud[0]
        apart = np.linalg.norm(cloud[None, :, None] + shifts[:, None, None] - raw, axis=-1).min(2).max(1)
        y = cloud[:, 1] + shifts[apart.argmin(), 1]
        assert apart.min() < 1e-5
        np.testing.assert_array_equal(labels, (4, 12)[category] + (y > 0))


def test_a_broken_shape_is_told(shapenet: Path) -> None:
    (shapenet / "03001627" / "a.txt").write_text("1 2 3\n")
    with pytest.raises(BadInput, match=r"a\.txt: 3 numbers a point"):
        load_segmented(shapenet / "val", 30)


def test_npz(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(4, 20, 3)).astype(np.float32)
    parts = (points[..., 0] > 0).astype(np.int16)
    parts[0, :3] = -1
    path = tmp_path / "a.npz"
    np.savez(path, points=points, parts=parts, group=np.array([5, 5, 3, 9]))
    found = load_segmented(path, 20)
    assert found is not None and found.categories is None
    assert found.groups.tolist() == np.unique(["5", "5", "3", "9"], return_inverse=True)[1].tolist()
    for cloud, labels, raw, own in zip(found.clouds, found.labels, points, parts, strict=True):
        here, there = np.lexsort(cloud.T), np.lexsort((raw - raw.mean(0)).T)
        np.testing.assert_array_equal(labels[here], own[there])
    np.savez(path, points=points, parts=parts, label=np.array([0, 1, 1, 0]))
    shapes = load_segmented(path, 20)
    assert shapes is not None and shapes.categories is not None
    assert shapes.categories.tolist() == [0, 1, 1, 0]
    np.savez(path, points=points, parts=parts, label=np.array([0, 1, -1, 0]))
    with pytest.raises(BadInput, match="1 shapes have parts and no label"):
        load_segmented(path, 20)
    np.savez(path, points=points, parts=parts + 2000)
    with pytest.raises(BadInput, match="classes of points are 1999 to 2001; give -1"):
        load_segmented(path, 20)


def test_what_has_no_classes_of_points(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", points=np.zeros((2, 4, 3), np.float32))
    assert load_segmented(tmp_path / "a.npz", 4) is None
    assert load_segmented(tmp_path, 4) is None
    assert load_segmented(tmp_path / "absent", 4) is None


def test_tiles_are_equal_parts_of_the_ground() -> None:
    points = np.random.default_rng(0).uniform(size=(1000, 3)) * (40, 10, 500)
    found = tiles(points, 130)
    assert {len(tile) for tile in found} == {125}
    assert sorted(np.concatenate(found).tolist()) == list(range(1000))
    sides = np.array([np.ptp(points[tile, :2], axis=0) for tile in found])
    assert sides.max() < 14  # nowhere long and thin, and height does not count
    assert tiles(points, 1000)[0].tolist() == list(range(1000))


@pytest.fixture
def lidar(tmp_path: Path) -> Path:
    laspy = pytest.importorskip("laspy", reason="needs shoestring[points]")
    rng = np.random.default_rng(0)
    xyz = rng.uniform(size=(3000, 3)) * (100, 80, 10)
    data = laspy.create(point_format=3, file_version="1.2")
    data.header.scales = [0.001] * 3
    data.xyz = xyz
    data.classification = np.where(xyz[:, 2] < 1, 0, np.where(xyz[:, 2] < 5, 2, 5))
    data.write(tmp_path / "a.las")
    return tmp_path / "a.las"


def test_lidar_is_cut_into_tiles(lidar: Path) -> None:
    found = load_segmented(lidar, 64)
    assert found is not None and found.categories is None
    assert found.clouds.shape == (16, 64, 3)  # of 188 points
    assert set(found.labels.ravel().tolist()) == {-1, 0, 1}  # never classified, and 2 and 5 in their order
    groups, counts = np.unique(found.groups, return_counts=True)
    assert (len(groups), set(counts.tolist())) == (8, {2})
    height = found.clouds[..., 2] - found.clouds[..., 2].min(1, keepdims=True)
    assert height[found.labels == 1].min() > 3 > height[found.labels == -1].max()
    folder = load_segmented(lidar.parent, 64)
    assert folder is not None
    np.testing.assert_array_equal(folder.labels, found.labels)


def test_files_of_many_are_not_parted(lidar: Path) -> None:
    for number in range(4):
        (lidar.parent / f"b{number}.las").write_bytes(lidar.read_bytes())
    found = load_segmented(lidar.parent, 64)
    assert found is not None
    assert np.unique(found.groups, return_counts=True)[1].tolist() == [16] * 5


def test_one_class_is_none(tmp_path: Path, lidar: Path) -> None:
    laspy = pytest.importorskip("laspy", reason="needs shoestring[points]")
    data = laspy.read(lidar)
    data.classification = np.full(3000, 2)
    data.write(lidar)
    with pytest.raises(BadInput, match="the points' classes are 2; give lidar of two classes or more"):
        load_segmented(lidar, 64)
    assert load_segmented(lidar.parent, 64) is None  # clouds of classes, maybe, without any of points
