"""Data sets of anything: slices, groups, a fingerprint, and items that cannot be read."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from shoestring.core.errors import BadInput
from shoestring.pipeline.dataset import Dataset, Item, without_broken


@dataclass(frozen=True)
class Word:
    """A source of text. Without an end it is broken."""

    text: str

    def open(self) -> str:
        return self.text

    def content(self) -> bytes:
        return self.text.encode()

    def is_whole(self) -> bool:
        return self.text.endswith(".")


@dataclass(frozen=True)
class Endless:
    """A source that cannot be broken."""

    def open(self) -> str:
        return "..."

    def content(self) -> bytes:
        return b"..."


def words(*texts: str) -> Dataset:
    return Dataset(tuple(Item(Word(text), n % 2, str(n // 2)) for n, text in enumerate(texts)), ("a", "b"))


def test_a_sequence() -> None:
    dataset = words("one.", "two.", "three.")
    assert [dataset[n] for n in range(3)] == [("one.", 0), ("two.", 1), ("three.", 0)]
    assert list(dataset[1:]) == [("two.", 1), ("three.", 0)]
    assert list(dataset.take([2, 0])) == [("three.", 0), ("one.", 0)]
    assert dataset.take([2]).names == ("a", "b")
    assert (dataset.targets, dataset.group, dataset.labelled) == ((0, 1, 0), ("0", "0", "1"), True)
    assert not Dataset((Item(Endless(), None, ""),)).labelled


def test_the_fingerprint_is_of_contents_targets_and_names() -> None:
    dataset = words("one.", "two.")
    others = [words("one.", "two"), words("two.", "one."), dataset[:1], Dataset(dataset.items, ("a", "c"))]
    prints = {data.fingerprint for data in [dataset, *others]}
    assert len(prints) == 5
    assert words("one.", "two.").fingerprint == dataset.fingerprint


def test_what_is_broken_is_left_out() -> None:
    dataset = Dataset((*words("one.", "two", "three.").items, Item(Endless(), 0, "9")))
    with pytest.warns(UserWarning, match=r"data: left out 1 of 4 words that cannot be read \(the first is number 0\)"):
        assert len(without_broken(dataset, Path("x"), "words")) == 3
    whole = words("one.")
    assert without_broken(whole, Path("x"), "words") is whole
    with pytest.raises(BadInput, match=r"none of the 1 words in x can be read \(the first is number 0\)"):
        without_broken(words("one"), Path("x"), "words")
