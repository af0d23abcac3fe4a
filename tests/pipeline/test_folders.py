"""Folders of any kind of file. What is said of odd ones: tests/image/test_data.py, where the files are pictures."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from shoestring.core.errors import BadInput
from shoestring.pipeline.folders import Files, read_folder


@dataclass(frozen=True)
class Note:
    path: Path

    def open(self) -> str:
        return self.path.read_text()

    def content(self) -> bytes:
        return self.path.read_bytes()


NOTES = Files("note", Note, frozenset((".note",)))


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    return path


def test_classes(tmp_path: Path) -> None:
    for name in ("b/1.note", "a/2.NOTE", "a/.hidden.note", "a/3.txt"):
        write(tmp_path / name)
    (tmp_path / "empty").mkdir()
    dataset = read_folder(tmp_path, NOTES)
    assert list(dataset) == [("2.NOTE", 0), ("1.note", 1)]
    assert (dataset.names, dataset.group) == (("a", "b", "empty"), ("a/2.NOTE", "b/1.note"))


def test_a_table_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.note")
    write(tmp_path / "b" / "2.note")
    (tmp_path / "labels.csv").write_text("file,class_index\nb/2.note,7\n")
    dataset = read_folder(tmp_path, NOTES)
    assert (dataset.targets, dataset.indexed) == ((7,), True)


def test_nothing_of_the_kind(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no note in .*; notes are \.note"):
        read_folder(tmp_path, NOTES)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(BadInput, match="lists no note; write one line per note"):
        read_folder(tmp_path, NOTES)
