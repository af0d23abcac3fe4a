"""What `--data` accepts of images: a folder of them, a folder with `labels.csv`, or a `.npz`."""

from pathlib import Path

from shoestring.core.errors import BadInput
from shoestring.image.dataset import ImageFile
from shoestring.image.packed import read_npz
from shoestring.pipeline.dataset import Dataset, without_broken
from shoestring.pipeline.folders import Files, read_folder

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
_FILES = Files("image", ImageFile, SUFFIXES)


def load_images(path: str | Path) -> Dataset:
    """Reads the images at `path`, a folder (see `pipeline.folders.read_folder`) or a `.npz` (see `packed.read_npz`);
    they are decoded when accessed.

    Images that cannot be read are left out with one warning. Raises BadInput when nothing usable is there.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise BadInput(f"data: {root} does not exist; give a folder of images or a .npz")
    if root.is_file():
        if root.suffix.lower() != ".npz":
            raise BadInput(f"data: {root} is a file; give the folder it lies in, or a .npz")
        dataset = read_npz(root)
    else:
        dataset = read_folder(root, _FILES)
    return without_broken(dataset, root, "images")
