"""Point clouds packed in one file: `.npz`, and the `.h5` files of ModelNet40 and ScanObjectNN."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.core.schema import one_line
from shoestring.deploy.clouds.arrays import read_array
from shoestring.deploy.clouds.raw import MAX_BYTES
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.points.dataset import ArrayCloud

_KEYS = ("points", "label", "labels", "classes", "group")
_BROKEN = (ValueError, TypeError, OSError, EOFError, MemoryError, KeyError, zipfile.BadZipFile, zlib.error)


def read_npz(path: Path) -> Dataset:
    """`points`: float [N, n, 3 or more]; `label` or `labels` (optional): whole numbers [N], -1 where there is none;
    `classes` (optional): their names, without which they are the network's output indices; `group` (optional): text or
    whole numbers [N], the scan that a cloud was taken from. Nothing is unpickled. Raises BadInput."""
    arrays = _arrays(path, _KEYS)
    if "points" not in arrays:
        raise BadInput(f"data: {path} has no array called points; write points, label and classes with numpy.savez")
    classes = arrays.get("classes", np.empty(0, dtype=str))
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise BadInput(f"data: {path}: classes is {classes.dtype} {list(classes.shape)}; give one text per class")
    labels = arrays.get("label", arrays.get("labels"))
    return _dataset(path, arrays["points"], labels, tuple(map(str, classes)), arrays.get("group"))


def read_parts(path: Path) -> np.ndarray | None:
    """The classes of the points of a `.npz`, int64 [N, n], beside its `points`: the array `parts` of whole numbers, -1
    where a point has none; None when there is no such array. Raises BadInput."""
    arrays = _arrays(path, ("points", "parts"))
    labels, points = arrays.get("parts"), arrays.get("points")
    if labels is None or points is None:
        return None
    if labels.dtype.kind not in "iu" or labels.shape != points.shape[:2]:
        what = f"{labels.dtype} {list(labels.shape)}"
        raise BadInput(
            f"data: {path}: parts is {what}; give whole numbers {list(points.shape[:2])}, one for each point"
        )
    return labels.astype(np.int64)


def read_h5(paths: Sequence[Path], names: Sequence[str] = ()) -> Dataset:
    """`data`: float [N, n, 3 or more], and `label`: [N] or [N, 1], of each file, one after the other. `names`: of the
    classes. Raises BadInput, also without h5py."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise BadInput(f'data: {paths[0]}: reading it needs h5py; pip install "shoestring[points]"') from None
    points, labels = [], []
    for path in paths:
        try:
            with h5py.File(path, "r") as file:
                size = file["data"].size * file["data"].dtype.itemsize
                if size > MAX_BYTES:
                    raise ValueError(f"{size} bytes, {MAX_BYTES} at most")
                points.append(np.asarray(file["data"]))
                labels.append(np.asarray(file["label"]).reshape(len(points[-1]), -1)[:, 0])
        except (*_BROKEN, RuntimeError, AttributeError) as error:
            raise BadInput(f"data: {path} does not hold data and label as HDF5 ({one_line(error)})") from None
    if len({array.shape[1:] for array in points}) > 1:
        raise BadInput(f"data: the files beside {paths[0]} hold clouds of different shapes; give one of them")
    return _dataset(paths[0], np.concatenate(points), np.concatenate(labels), tuple(names))


def _arrays(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the arrays `keys` that a `.npz` has, by name."""
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for key in keys:
                if f"{key}.npy" in archive.namelist():
                    with archive.open(f"{key}.npy") as stream:
                        arrays[key] = read_array(stream)
    except _BROKEN as error:
        raise BadInput(f"data: {path} cannot be read as plain arrays ({one_line(error)})") from None
    return arrays


def _dataset(
    path: Path,
    points: np.ndarray,
    labels: np.ndarray | None,
    names: tuple[str, ...],
    group: np.ndarray | None = None,
) -> Dataset:
    if points.ndim != 3 or points.shape[2] < 3 or points.dtype.kind != "f" or not points.size:
        raise BadInput(f"data: {path}: points is {points.dtype} {list(points.shape)}; give floats [N, n, 3]")
    if not np.isfinite(points[:, :, :3]).all():
        raise BadInput(f"data: {path}: points holds NaN or infinite values; remove those clouds")
    targets = [None] * len(points) if labels is None else _targets(path, labels, len(points), len(names))
    if group is not None and group.shape != (len(points),):
        raise BadInput(f"data: {path}: group is {list(group.shape)}; give one for each of {len(points)} clouds")
    groups = map(str, range(len(points)) if group is None else group)
    items = (
        Item(ArrayCloud(points, n), target, of) for n, (target, of) in enumerate(zip(targets, groups, strict=True))
    )
    return Dataset(tuple(items), names, indexed=labels is not None and not names)


def _targets(path: Path, labels: np.ndarray, count: int, classes: int) -> list[int | None]:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        what = f"{labels.dtype} {list(labels.shape)}"
        raise BadInput(f"data: {path}: label is {what}; give one whole number for each of {count} clouds")
    wrong = np.flatnonzero((labels < -1) | (labels >= classes if classes else False))
    if len(wrong):
        asked = f"-1 to {classes - 1}, the classes" if classes else "-1 or above"
        raise BadInput(f"data: {path}: label {labels[wrong[0]]} of cloud {wrong[0]} is out of range; give {asked}")
    return [None if label < 0 else int(label) for label in labels]
