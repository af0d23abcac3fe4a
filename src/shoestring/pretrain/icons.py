"""Pictures that come with clouds: one file each, in the order of the clouds by name."""

from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image

from shoestring.core.errors import BadInput

_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_pictures(folder: str | Path, count: int, size: int = 32) -> ndarray:
    """uint8 [count, size, size]: the pictures in `folder` by name, grey, on white where they are transparent. Raises
    BadInput unless there are `count` that can be read."""
    root = Path(folder)
    files = sorted(path for path in root.glob("*") if path.suffix.lower() in _SUFFIXES)
    if len(files) != count:
        told = "does not exist" if not root.is_dir() else f"holds {len(files)} pictures"
        raise BadInput(
            f"pictures: {root} {told}; give a folder with {count}, one for each cloud, in their order by name"
        )
    return np.stack([_grey(path, size) for path in files])


def _grey(path: Path, size: int) -> ndarray:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"pictures: {path} cannot be read ({error}); remove it with its cloud") from None
    white = Image.new("RGBA", picture.size, "white")
    grey = Image.alpha_composite(white, picture).convert("L")
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))
