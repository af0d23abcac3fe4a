"""Real photographs that installed packages bring along, for `--demo`."""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shoestring.core.errors import BadInput
from shoestring.image.dataset import ImageFile
from shoestring.pipeline.dataset import Dataset, Item

# package, folder inside it, files inside the wheel; one photograph of each scene
_PHOTOGRAPHS = (
    (
        "skimage",
        "data",
        "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png hubble_deep_field.jpg ihc.png moon.png "
        "motorcycle_left.png retina.jpg rocket.jpg",
    ),
    ("sklearn", "datasets/images", "china.jpg flower.jpg"),
)
CROPS = 12  # of each photograph: 168 in all
SIDE = 256  # pixels
_SCALE = (0.4, 1.0)  # area of a crop, as a share of the largest square; below, objects are no longer recognised
_SEED = 2


@dataclass(frozen=True)
class Crop:
    """A square of a photograph, `left`, `top` and `side` in its pixels, resized to SIDE and mirrored where asked."""

    photograph: ImageFile
    left: int
    top: int
    side: int
    mirror: bool

    def open(self) -> Image.Image:
        box = (self.left, self.top, self.left + self.side, self.top + self.side)
        image = _photograph(self.photograph).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
        return ImageOps.mirror(image) if self.mirror else image

    def content(self) -> bytes:
        place = f"{self.left} {self.top} {self.side} {self.mirror}"
        return self.photograph.content() + place.encode()


def demo_photographs() -> Dataset:
    """168 unlabelled crops, 256 x 256, of 14 real photographs, the same on every machine; `group` is the photograph.

    Raises BadInput when scikit-image or scikit-learn, which bring the photographs, are not installed.
    """
    items = []
    for path in _paths():
        rng = np.random.default_rng([_SEED, zlib.crc32(path.name.encode())])  # by name: a new photograph moves no crop
        photograph = ImageFile(path)
        items += [Item(_crop(photograph, rng), None, path.stem) for _ in range(CROPS)]
    return Dataset(tuple(items))


def _paths() -> list[Path]:
    paths = []
    for package, folder, files in _PHOTOGRAPHS:
        spec = find_spec(package)  # finds the folder without the seconds an import takes
        if spec is None or not spec.submodule_search_locations:
            raise BadInput("demo: the photographs come with other packages; write pip install shoestring[demo]")
        paths += [Path(spec.submodule_search_locations[0], folder, name) for name in files.split()]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise BadInput(f"demo: the packages here lack {', '.join(missing)}; write pip install shoestring[demo]")
    return paths


def _crop(photograph: ImageFile, rng: np.random.Generator) -> Crop:
    with Image.open(photograph.path) as image:  # reads the header only
        width, height = image.size
    side = round(min(width, height) * math.sqrt(rng.uniform(*_SCALE)))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    return Crop(photograph, left, top, side, mirror=bool(rng.integers(2)))


@lru_cache(maxsize=2)
def _photograph(file: ImageFile) -> Image.Image:
    """The crops of one photograph follow each other: it is decoded once."""
    return file.open().convert("RGB")
