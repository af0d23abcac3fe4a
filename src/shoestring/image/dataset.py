"""Dataset: images that are decoded when they are looked at, with their labels and where each one came from."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol, overload

import numpy as np
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import MAX_PIXELS, open_image

Raw = Image.Image | np.ndarray
_JPEG_END = b"\xff\xd9"


class Source(Protocol):
    """Where one image comes from."""

    def open(self) -> Raw:
        """The decoded image: PIL, or float32 [C, H, W] for what already is a network input."""
        ...

    def content(self) -> bytes:
        """The bytes the image is made from, for the fingerprint."""
        ...


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


@dataclass(frozen=True)
class Item:
    """One input. `target`: its class, or None. `group`: the photograph it was taken from."""

    source: Source
    target: int | None
    group: str


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[tuple[Raw, int | None]]):
    """A sequence of (raw image, target). `names`: the class names, in the order of the targets ("" where a class has
    none). `indexed`: the targets are the network's output indices as they stand; otherwise they count `names`."""

    items: tuple[Item, ...]
    names: tuple[str, ...] = ()
    indexed: bool = False

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> tuple[Raw, int | None]: ...

    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...

    def __getitem__(self, index: int | slice) -> "tuple[Raw, int | None] | Dataset":
        if isinstance(index, slice):
            return replace(self, items=self.items[index])
        item = self.items[index]
        return item.source.open(), item.target

    def take(self, indices: Iterable[int]) -> "Dataset":
        """These items, in this order."""
        return replace(self, items=tuple(self.items[index] for index in indices))

    @property
    def targets(self) -> tuple[int | None, ...]:
        return tuple(item.target for item in self.items)

    @property
    def group(self) -> tuple[str, ...]:
        """Per item the photograph it was taken from: what shares one must not be split over two sets."""
        return tuple(item.group for item in self.items)

    @property
    def labelled(self) -> bool:
        return all(item.target is not None for item in self.items)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over bytes and targets of the items, in order, and the class names; file names do not count."""
        digest = hashlib.sha256("\0".join(self.names).encode())
        for item in self.items:
            content = item.source.content()
            digest.update(f"\n{item.target} {len(content)}\n".encode())
            digest.update(content)
        return digest.hexdigest()


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
