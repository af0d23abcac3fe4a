"""What `--data` accepts of point clouds: a folder of them, a folder with `labels.csv`, a `.npz`, a `.h5`, a release."""

import warnings
from pathlib import Path

from shoestring.core.errors import BadInput
from shoestring.deploy.clouds.read import IN_FOLDERS, SUFFIXES
from shoestring.pipeline.dataset import Dataset, without_broken
from shoestring.pipeline.folders import Files, read_folder
from shoestring.points.dataset import CloudFile
from shoestring.points.packed import read_h5, read_npz
from shoestring.points.released import split_of, splits_in

_FILES = Files("point cloud", CloudFile, IN_FOLDERS)
_TABLES = Files("point cloud", CloudFile, SUFFIXES)


def load_clouds(path: str | Path, unlabelled: bool = False) -> Dataset:
    """Reads the point clouds at `path`: a folder (see `pipeline.folders.read_folder`; files as `deploy.clouds.read`
    knows them), a `.npz` or a `.h5` (see `packed`), or the split of a release (see `released`), written `ROOT/train`.

    Clouds that cannot be read are left out with one warning, and so are those without a label where others have one,
    unless they are asked for with `unlabelled`. Raises BadInput when nothing usable is there."""
    root = Path(path).expanduser()
    dataset = _read(root)
    labelled = [index for index, item in enumerate(dataset.items) if item.target is not None]
    if not unlabelled and 0 < len(labelled) < len(dataset):
        left = len(dataset) - len(labelled)
        warnings.warn(f"data: left out {left} of {len(dataset)} clouds that have no label", stacklevel=2)
        dataset = dataset.take(labelled)
    return without_broken(dataset, root if root.exists() else root.parent, "clouds")


def _read(root: Path) -> Dataset:
    if not root.exists():
        dataset = split_of(root)
        if dataset is None:
            raise BadInput(f"data: {root} does not exist; give a folder of point clouds, a .npz or a .h5")
        return dataset
    if root.is_file():
        if root.suffix.lower() == ".npz":
            return read_npz(root)
        if root.suffix.lower() in (".h5", ".hdf5"):
            return read_h5([root])
        raise BadInput(f"data: {root} is a file; give the folder it lies in, a .npz or a .h5")
    if splits := splits_in(root):
        raise BadInput(f"data: {root} holds {', '.join(splits)}; give one of them, for example {root / splits[0]}")
    try:
        return read_folder(root, _FILES)
    except BadInput:
        if (root / "labels.csv").is_file() or not any(root.rglob("*.txt")):
            raise
        return read_folder(root, _TABLES)
