"""Clouds whose points have classes, as arrays: parts of shapes, and scenes, which are cut into tiles."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.deploy.cloud_spec import chosen, cloud, order
from shoestring.deploy.clouds.read import read_classified
from shoestring.points.data import load_clouds
from shoestring.points.dataset import CloudFile
from shoestring.points.packed import read_parts
from shoestring.points.released import is_parts, parts, split_of

MOST = 1024  # classes
_LIDAR = (".las", ".laz")
_REGIONS = 8  # of a scan, which are not parted: a tile is judged where few of its neighbours have taught
_FILES = 5  # and above: none of them is parted
_THINNED = 4  # times the points that are shown, at most, are in a tile


@dataclass(frozen=True)
class Segmented:
    """`clouds` float32 [n, points, 3], each about its mean, in the files' units; `labels` int64 [n, points]: the class
    of each point, -1 where it has none. `categories` int64 [n]: of shapes, which know their category; None for scenes.
    `groups` int64 [n]: clouds of one group stay together when they are split."""

    clouds: ndarray
    labels: ndarray
    categories: ndarray | None
    groups: ndarray


def load_segmented(path: str | Path, points: int) -> Segmented | None:
    """`points` of each cloud at `path`, those that `stacked` takes, with their classes: a split of ShapeNetPart
    (`ROOT/train`), a `.npz` with `points` and `parts` (`packed.read_parts`), a `.las` or `.laz` or a folder of them.
    The classes of lidar are renumbered in their order, 0 (never classified) being none. None for what has no classes of
    points. Raises BadInput for what cannot be read."""
    root = Path(path).expanduser()
    if is_parts(root):
        return _shapes(root, points)
    if root.is_file() and root.suffix.lower() == ".npz":
        return _packed(root, points)
    files = _lidar(root)
    return _scenes(root, files, points) if files else None


def tiles(points: ndarray, most: int) -> list[ndarray]:
    """Indices of parts of [n, 3] with `most` points or fewer, all about equally many: halved at the median of x or y,
    whichever is longer, until they are. Neighbours in the list are neighbours in space."""
    found = [np.arange(len(points))]
    while len(found[0]) > most:
        found = [half for part in found for half in _halves(points, part)]
    return found


def _halves(points: ndarray, part: ndarray) -> tuple[ndarray, ndarray]:
    flat = points[part, :2]
    along = part[np.argsort(flat[:, int(np.ptp(flat, axis=0).argmax())], kind="stable")]
    return along[: (len(along) + 1) // 2], along[(len(along) + 1) // 2 :]


def _shapes(root: Path, points: int) -> Segmented:
    dataset = split_of(root)
    assert dataset is not None, "`is_parts` looked"
    files = [item.source.path for item in dataset.items if isinstance(item.source, CloudFile)]
    categories = np.array(dataset.targets, np.int64)
    return _stacked(map(parts, files), points, categories, np.arange(len(files)))


def _packed(path: Path, points: int) -> Segmented | None:
    labels = read_parts(path)
    if labels is None:
        return None
    dataset = load_clouds(path, unlabelled=True)
    named = [target is not None for target in dataset.targets]
    if any(named) and not all(named):
        raise BadInput(
            f"data: {path}: {named.count(False)} shapes have parts and no label; give all of them one, or none"
        )
    categories = np.array(dataset.targets, np.int64) if any(named) else None
    groups = np.unique([item.group for item in dataset.items], return_inverse=True)[1]
    return _stacked(((raw, own) for (raw, _), own in zip(dataset, labels, strict=True)), points, categories, groups)


def _lidar(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() in _LIDAR else []
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in _LIDAR) if root.is_dir() else []


def _scenes(root: Path, files: Sequence[Path], points: int) -> Segmented | None:
    """None for a folder without classes of points, whose clouds may have some."""
    read: list[tuple[ndarray, ndarray]] = []
    groups: list[int] = []
    for number, file in enumerate(files):
        xyz, classes = read_classified(file)
        own = tiles(xyz, _THINNED * points)
        read += [(xyz[part], np.where(classes[part] > 0, classes[part], -1)) for part in own]
        together = [0] * len(own) if len(files) >= _FILES else [_REGIONS * tile // len(own) for tile in range(len(own))]
        groups += [_REGIONS * number + region for region in together]
    there = np.unique(np.concatenate([classes for _, classes in read]))
    there = there[there >= 0]
    if len(there) < 2 and root.is_dir():
        return None
    if len(there) < 2:
        told = ", ".join(map(str, there)) or "none"
        raise BadInput(f"data: {root}: the points' classes are {told}; give lidar of two classes or more")
    numbered = ((xyz, np.where(own < 0, -1, np.searchsorted(there, own))) for xyz, own in read)
    return _stacked(numbered, points, None, np.array(groups, np.int64))


def _stacked(
    read: Iterator[tuple[ndarray, ndarray]], points: int, categories: ndarray | None, groups: ndarray
) -> Segmented:
    clouds: list[ndarray] = []
    labels: list[ndarray] = []
    for raw, own in read:
        xyz = cloud(raw)
        if len(xyz) != len(own):
            raise BadInput(f"data: cloud {len(clouds)} has points that are no measurements; leave them out")
        index = chosen(order(xyz), points)
        shown = xyz[index].astype(np.float64)
        clouds.append((shown - shown.mean(0)).astype(np.float32))
        labels.append(own[index].astype(np.int64))
    if not clouds:
        raise BadInput("data: holds no point cloud")
    found = np.stack(labels)
    if not -1 <= found.min() <= found.max() < MOST:
        raise BadInput(f"data: classes of points are {found.min()} to {found.max()}; give -1 (none) to {MOST - 1}")
    return Segmented(np.stack(clouds), found, categories, np.asarray(groups, np.int64))
