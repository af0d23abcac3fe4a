"""Where images come from: files, JPEGs packed in one buffer, arrays; decoded when they are looked at."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import MAX_PIXELS, open_image
from shoestring.pipeline.dataset import Source

Raw = Image.Image | np.ndarray
_JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class ImageFile:
    """An image file."""

    path: Path

    def open(self) -> Image.Image:
        return open_image(self.path)

    def content(self) -> bytes:
        return self.path.read_bytes()

    def is_whole(self) -> bool:
        try:
            with self.path.open("rb") as stream:
                return _is_whole_jpeg(stream) or _opens(self)
        except OSError:  # a link to nothing, no permission
            return False


@dataclass(frozen=True, eq=False)
class PackedImage:
    """A JPEG inside a buffer (uint8 [bytes]) of many."""

    buffer: np.ndarray
    start: int
    stop: int

    def open(self) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(self.content()), formats=("JPEG",))
            image.load()
        except Exception as error:  # Pillow's decoders raise many types on broken files
            raise BadInput(f"data: the JPEG at byte {self.start} cannot be decoded ({error}); pack it again") from None
        return image

    def content(self) -> bytes:
        return self.buffer[self.start : self.stop].tobytes()

    def is_whole(self) -> bool:
        return _is_whole_jpeg(io.BytesIO(self.content())) or _opens(self)


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """One of many decoded images: uint8 [N, H, W, 3] or [N, H, W], or network inputs, float32 [N, C, H, W]."""

    images: np.ndarray
    index: int

    def open(self) -> Raw:
        image = self.images[self.index]
        return Image.fromarray(image) if image.dtype == np.uint8 else image

    def content(self) -> bytes:
        return self.images[self.index].tobytes()


def _is_whole_jpeg(stream: BinaryIO) -> bool:
    """Whether the header reads and the end marker is there: decoding each file of a large folder would take minutes."""
    try:
        with Image.open(stream, formats=("JPEG",)) as image:
            stream.seek(-len(_JPEG_END), os.SEEK_END)
            return stream.read() == _JPEG_END and image.width * image.height <= MAX_PIXELS
    except Exception:  # Pillow's decoders raise many types on broken files
        return False


def _opens(source: Source) -> bool:
    try:
        source.open()
    except BadInput:
        return False
    return True
