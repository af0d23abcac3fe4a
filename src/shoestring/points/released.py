"""Published data sets as they are unpacked: ModelNet40 (meshes, and the HDF5 release), ScanObjectNN, ShapeNetPart. A
split that is no folder is still written as one: `ModelNet40/train`."""

import json
from pathlib import Path

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.core.schema import one_line
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.points.dataset import CloudFile
from shoestring.points.packed import read_h5

_LISTS = {"train": "train_files.txt", "test": "test_files.txt"}
_PARTS = "synsetoffset2category.txt"


def split_of(path: Path) -> Dataset | None:
    """`ROOT/train` and so on, where ROOT is a release and has no such folder; None when it is none."""
    root, name = path.parent, path.name.lower()
    if (root / _PARTS).is_file():
        return _shapenet_part(root, name)
    if (root / _LISTS.get(name, "?")).is_file():
        return _modelnet_h5(root, name)
    folders = sorted(child for child in root.iterdir() if (child / name).is_dir()) if root.is_dir() else []
    if not folders:
        return None
    items = (
        Item(CloudFile(file), index, str(file.relative_to(root)))
        for index, folder in enumerate(folders)
        for file in sorted((folder / name).glob("*.off"))
    )
    return Dataset(tuple(items), tuple(folder.name for folder in folders))


def splits_in(root: Path) -> tuple[str, ...]:
    """The splits of the release at `root`, empty when it is none: who gives the root means one of them."""
    if (root / _PARTS).is_file():
        return ("train", "val", "test")
    if all((root / name).is_file() for name in _LISTS.values()):
        return tuple(_LISTS)
    folders = [child for child in root.iterdir() if child.is_dir()]
    meshes = folders and all((child / "train").is_dir() and (child / "test").is_dir() for child in folders)
    return tuple(_LISTS) if meshes else ()


def _modelnet_h5(root: Path, split: str) -> Dataset:
    """The HDF5 release: lists of files whose folders are those of another machine."""
    listed = [Path(line.strip()).name for line in (root / _LISTS[split]).read_text().splitlines() if line.strip()]
    missing = [name for name in listed if not (root / name).is_file()]
    if missing or not listed:
        raise BadInput(f"data: {root / _LISTS[split]} names {', '.join(missing[:3]) or 'no file'}; unpack them there")
    names = root / "shape_names.txt"
    return read_h5([root / name for name in listed], names.read_text().split() if names.is_file() else ())


def _shapenet_part(root: Path, split: str) -> Dataset:
    """Category by category folder; `parts` reads the labels of the points."""
    place = root / "train_test_split" / f"shuffled_{split}_file_list.json"
    try:
        lines = (line.split() for line in (root / _PARTS).read_text().splitlines() if line.strip())
        categories = {folder: name for name, folder in lines}
        listed = [Path(name).parts[-2:] for name in json.loads(place.read_text())]
        folders = sorted(categories)
        items = tuple(
            Item(CloudFile(root / folder / f"{name}.txt"), folders.index(folder), f"{folder}/{name}")
            for folder, name in listed
        )
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"data: {place} is not the split of ShapeNetPart ({one_line(error)})") from None
    return Dataset(items, tuple(categories[folder] for folder in folders))


def is_parts(path: Path) -> bool:
    """Whether `path` is written as a split of ShapeNetPart, whose points have parts."""
    return (path.parent / _PARTS).is_file() and not path.exists()


def parts(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 [n, 3] and parts int64 [n] of a `.txt` of ShapeNetPart: x y z, normal, part. Raises BadInput."""
    try:
        table = np.loadtxt(path, np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a table of numbers ({one_line(error)})") from None
    if table.shape[1] != 7 or not np.isfinite(table).all():
        raise BadInput(f"{path}: {table.shape[1]} numbers a point; ShapeNetPart has 7: x y z, normal, part")
    return table[:, :3].astype(np.float32), table[:, 6].astype(np.int64)
