"""Images packed in one `.npz`."""

import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.image.dataset import ArrayImage, PackedImage
from shoestring.pipeline.dataset import Dataset, Item, Source

_ACCEPTED = "images (+ labels, classes), or jpeg, offset, label (+ classes)"


def read_npz(path: Path) -> Dataset:
    """Reads either packing; nothing in the file is ever unpickled.

    - `images`: uint8 [N, H, W, 3] or [N, H, W], or float32 [N, C, H, W] taken as network inputs as they are;
      `labels` (optional): whole numbers [N];
    - `jpeg`: the files one after the other, uint8 [bytes]; `offset`: [N + 1], where each begins and the last ends;
      `label`: whole numbers [N].

    `classes` (optional): the class names in the order of the labels; without it labels are the network's output
    indices. Raises BadInput on other keys, types, shapes or values.
    """
    arrays = _read(path)
    classes = arrays.get("classes", np.empty(0, dtype=str))
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise BadInput(f"data: {path}: classes is {_describe(classes)}; give one text per class")
    names = tuple(map(str, classes))
    sources, key = _sources(path, arrays)
    targets = _targets(path, key, arrays[key], len(sources), len(names)) if key in arrays else [None] * len(sources)
    items = (Item(source, target, str(n)) for n, (source, target) in enumerate(zip(sources, targets, strict=True)))
    return Dataset(tuple(items), names, indexed=key in arrays and not names)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file that mean something to us."""
    key = ""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            if not {"images"} <= set(archive.files) and not {"jpeg", "offset", "label"} <= set(archive.files):
                raise BadInput(f"data: {path} has the keys {', '.join(archive.files) or 'none'}; it needs {_ACCEPTED}")
            arrays = {}
            for key in ("images", "labels", "jpeg", "offset", "label", "classes"):
                if key in archive.files:
                    arrays[key] = archive[key]
            return arrays
    except (ValueError, TypeError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        what = f"{path}: {key}" if key else str(path)
        raise BadInput(
            f"data: {what} cannot be read as plain arrays ({_line(error)}); write it with numpy.savez"
        ) from None


def _sources(path: Path, arrays: dict[str, np.ndarray]) -> tuple[list[Source], str]:
    """One source per image and the key that holds the labels of this packing."""
    if "images" in arrays:
        images = arrays["images"]
        _check_images(path, images)
        return [ArrayImage(images, index) for index in range(len(images))], "labels"
    jpeg, offset = arrays["jpeg"], arrays["offset"]
    if jpeg.ndim != 1 or jpeg.dtype != np.uint8 or offset.ndim != 1 or offset.dtype.kind not in "iu" or len(offset) < 2:
        found = f"jpeg {_describe(jpeg)}, offset {_describe(offset)}"
        raise BadInput(f"data: {path}: {found}; give uint8 [bytes] and whole numbers [images + 1]")
    starts = offset.astype(np.int64)
    if starts[0] < 0 or starts[-1] > len(jpeg) or (np.diff(starts) < 0).any():
        raise BadInput(f"data: {path}: offset must rise from 0 to at most {len(jpeg)}, the bytes in jpeg")
    return [PackedImage(jpeg, int(a), int(b)) for a, b in pairwise(starts)], "label"


def _check_images(path: Path, images: np.ndarray) -> None:
    photographs = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3))
    inputs = images.dtype == np.float32 and images.ndim == 4
    if not (photographs or inputs) or not images.size:
        asked = "uint8 [N, H, W, 3] or [N, H, W], or float32 [N, C, H, W]"
        raise BadInput(f"data: {path}: images is {_describe(images)}; give {asked}")
    if inputs and not np.isfinite(images).all():
        raise BadInput(f"data: {path}: images holds NaN or infinite values; remove those inputs")


def _targets(path: Path, key: str, labels: np.ndarray, count: int, classes: int) -> list[int]:
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise BadInput(f"data: {path}: {key} is {_describe(labels)}; give one whole number for each of {count} images")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes if classes else False))
    if len(wrong):
        asked = f"from 0 to {classes - 1}, the classes" if classes else "0 or above"
        raise BadInput(f"data: {path}: {key} {labels[wrong[0]]} of image {wrong[0]} is out of range; give {asked}")
    return [int(label) for label in labels]


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
