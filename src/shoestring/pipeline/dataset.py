"""Dataset: inputs that are read when they are looked at, with their labels and where each one came from. What an input
is (a photograph, a point cloud) is the modality's affair."""

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload

from shoestring.core.errors import BadInput


class Source(Protocol):
    """Where one input comes from."""

    def open(self) -> Any:
        """The raw input, as the modality's preprocessing takes it."""
        ...

    def content(self) -> bytes:
        """The bytes the input is made from, for the fingerprint."""
        ...


@dataclass(frozen=True)
class Item:
    """One input. `target`: its class, or None. `group`: the original it was taken from (a photograph, a scan)."""

    source: Source
    target: int | None
    group: str


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[tuple[Any, int | None]]):
    """A sequence of (raw input, target). `names`: the class names, in the order of the targets ("" where a class has
    none). `indexed`: the targets are the network's output indices as they stand; otherwise they count `names`."""

    items: tuple[Item, ...]
    names: tuple[str, ...] = ()
    indexed: bool = False

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> tuple[Any, int | None]: ...

    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...

    def __getitem__(self, index: int | slice) -> "tuple[Any, int | None] | Dataset":
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
        """Per item the original it was taken from: what shares one must not be split over two sets."""
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


def without_broken(dataset: Dataset, root: Path, noun: str) -> Dataset:
    """Leaves out the items whose source `is_whole` says no, with one warning; raises BadInput when nothing is left.
    `noun`: what they are called, in the plural."""
    broken = [
        index
        for index, item in enumerate(dataset.items)
        if (is_whole := getattr(item.source, "is_whole", None)) is not None and not is_whole()
    ]
    if not broken:
        return dataset
    item = dataset.items[broken[0]]
    path = getattr(item.source, "path", None)
    first = f"number {item.group}" if path is None else str(path.relative_to(root))
    if len(broken) == len(dataset):
        raise BadInput(f"data: none of the {len(dataset)} {noun} in {root} can be read (the first is {first})")
    warnings.warn(
        f"data: left out {len(broken)} of {len(dataset)} {noun} that cannot be read (the first is {first})",
        stacklevel=4,
    )
    return dataset.take(sorted(set(range(len(dataset))) - set(broken)))
