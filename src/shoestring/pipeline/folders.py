"""Data sets in folders: class sub-folders, or a `labels.csv`, of any kind of file."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoestring.core.errors import BadInput
from shoestring.pipeline.dataset import Dataset, Item, Source

_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
_MOST_CLASSES = 100_000  # a class index above is an identifier in the wrong column


@dataclass(frozen=True)
class Files:
    """What a modality reads. `noun`: what a file is called ("image"); `source`: of a file; `suffixes`: in lower case,
    with their dots."""

    noun: str
    source: Callable[[Path], Source]
    suffixes: frozenset[str]


def read_folder(root: Path, files: Files) -> Dataset:
    """The files in the folder `root`:

    - with `labels.csv`: column `file` (relative to the folder) and `class_index` (the network's output index) or
      `label` (a name; whole numbers only: the index); optionally `name` of the class and `group`, the original that an
      input was taken from;
    - `DIR/CLASS/file`, two classes or more: the sub-folders are the classes, in sorted order, the empty ones included;
    - in any other arrangement: no labels.

    Raises BadInput when there is nothing to read, and for a table that cannot be used.
    """
    table = root / "labels.csv"
    return _read_table(table, files) if table.is_file() else _read_classes(root, files)


def _read_classes(root: Path, kind: Files) -> Dataset:
    folders = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    files = _files_below(root, folders, kind)
    if not files:
        raise BadInput(f"data: no {kind.noun} in {root}; {kind.noun}s are {' '.join(sorted(kind.suffixes))}")
    if len(folders) > 1 and _SPLITS.issuperset(folder.lower() for folder in folders):
        raise BadInput(f"data: {root} holds {', '.join(folders)}; give one of them, for example {root / folders[0]}")
    labelled = all(len(file.parts) == 2 for file in files) and len({file.parts[0] for file in files}) > 1
    names = tuple(folders) if labelled else ()
    index = {name: position for position, name in enumerate(names)}
    items = tuple(Item(kind.source(root / file), index.get(file.parts[0]), str(file)) for file in files)
    return Dataset(items, names)


def _files_below(root: Path, folders: Sequence[str], kind: Files) -> list[Path]:
    """The files of `root` and, at any depth, of `folders` (which may be links), relative to `root`, sorted."""
    found = [file for file in root.iterdir() if file.is_file()]
    for folder in folders:
        found += [Path(place) / file for place, _, files in os.walk(root / folder) for file in files]
    kept = [file.relative_to(root) for file in found if file.suffix.lower() in kind.suffixes]
    return sorted(file for file in kept if not any(part.startswith(".") for part in file.parts))


@dataclass(frozen=True)
class _Row:
    """One line of `labels.csv`."""

    line: int
    file: str
    label: str
    name: str
    group: str


def _read_table(path: Path, kind: Files) -> Dataset:
    rows, column = _rows(path, kind.noun)
    indexed = column == "class_index" or all(_is_index(row.label) for row in rows)
    for row in rows:
        if indexed and not (_is_index(row.label) and int(row.label) < _MOST_CLASSES):
            asked = f"a class index from 0 to {_MOST_CLASSES - 1}"
            raise BadInput(f"data: {path} line {row.line}: {column} {row.label!r} is not {asked}")
    if indexed:
        names = _names_by_index(rows)
        targets = [int(row.label) for row in rows]
    else:
        names = tuple(sorted({row.label for row in rows}))
        index = {name: position for position, name in enumerate(names)}
        targets = [index[row.label] for row in rows]
    items = tuple(
        Item(kind.source(path.parent / row.file), target, row.group) for row, target in zip(rows, targets, strict=True)
    )
    return Dataset(items, names, indexed)


def _rows(path: Path, noun: str) -> tuple[list[_Row], str]:
    """The lines of `labels.csv`, checked, and the column that holds the label."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = list(reader.fieldnames or ())
            lines = [(reader.line_num, fields) for fields in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadInput(f"data: {path} is not comma-separated text in UTF-8 ({error})") from None
    column = next((name for name in ("class_index", "label") if name in columns), None)
    if "file" not in columns or column is None:
        given = ", ".join(columns) or "nothing"
        raise BadInput(f"data: {path} has the columns {given}; it needs file,class_index or file,label")
    rows = []
    for line, fields in lines:
        if None in fields or None in fields.values():  # DictReader's marks for too many and too few
            raise BadInput(f"data: {path} line {line} does not have the {len(columns)} columns {','.join(columns)}")
        file, label = fields["file"].strip(), fields[column].strip()
        if not file or not label:
            raise BadInput(f"data: {path} line {line} has an empty {'label' if file else 'file'}; fill it or remove it")
        rows.append(_Row(line, file, label, fields.get("name", "").strip(), fields.get("group", "").strip() or file))
    _check_files(path, rows, noun)
    return rows, column


def _check_files(path: Path, rows: Sequence[_Row], noun: str) -> None:
    """Raises BadInput when a file is missing or listed twice, or when there is none."""
    if not rows:
        raise BadInput(f"data: {path} lists no {noun}; write one line per {noun} under the header")
    missing = [row for row in rows if not (path.parent / row.file).is_file()]
    if missing:
        first = f"the first is {missing[0].file} (line {missing[0].line})"
        raise BadInput(
            f"data: {path} names {len(missing)} files that are not there, {first}; paths start at its folder"
        )
    seen: dict[str, int] = {}
    for row in rows:
        if row.file in seen:
            raise BadInput(f"data: {path} lists {row.file} twice, in lines {seen[row.file]} and {row.line}; keep one")
        seen[row.file] = row.line


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _names_by_index(rows: Sequence[_Row]) -> tuple[str, ...]:
    """Class names by class index, "" where no row names one; empty when none does."""
    given = {int(row.label): row.name for row in rows if row.name}
    return tuple(given.get(index, "") for index in range(max(given, default=-1) + 1))
