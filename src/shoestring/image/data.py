"""What `--data` accepts: a folder of images, a folder with `labels.csv`, or a `.npz`."""

import csv
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shoestring.core.errors import BadInput
from shoestring.image.dataset import Dataset, ImageFile, Item, PackedImage
from shoestring.image.packed import read_npz

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
_MOST_CLASSES = 100_000  # a class index above is an identifier in the wrong column


def load_images(path: str | Path) -> Dataset:
    """Reads the images at `path`; they are decoded when accessed.

    - a folder with `labels.csv`: column `file` (relative to the folder) and `class_index` (the network's output index)
      or `label` (a name; whole numbers only: the index); optionally `name` of the class and `group`, the photograph
      an image was taken from;
    - `DIR/CLASS/image`, two classes or more: the sub-folders are the classes, in sorted order, the empty ones included;
    - any other arrangement of images in folders: no labels;
    - a `.npz` (see `packed.read_npz`).

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
        table = root / "labels.csv"
        dataset = _read_table(table) if table.is_file() else _read_folder(root)
    return _without_broken(dataset, root)


def _without_broken(dataset: Dataset, root: Path) -> Dataset:
    """Leaves out what cannot be read, with one warning; raises BadInput when nothing is left."""
    broken = [
        index
        for index, item in enumerate(dataset.items)
        if isinstance(item.source, ImageFile | PackedImage) and not item.source.is_whole()
    ]
    if not broken:
        return dataset
    first = _name(dataset.items[broken[0]], root)
    if len(broken) == len(dataset):
        raise BadInput(f"data: none of the {len(dataset)} images in {root} can be read (the first is {first})")
    warnings.warn(
        f"data: left out {len(broken)} of {len(dataset)} images that cannot be read (the first is {first})",
        stacklevel=3,
    )
    return dataset.take(sorted(set(range(len(dataset))) - set(broken)))


def _name(item: Item, root: Path) -> str:
    source = item.source
    return str(source.path.relative_to(root)) if isinstance(source, ImageFile) else f"number {item.group}"


def _read_folder(root: Path) -> Dataset:
    folders = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    files = _images_below(root, folders)
    if not files:
        raise BadInput(f"data: no image in {root}; images are {' '.join(sorted(SUFFIXES))}")
    if len(folders) > 1 and _SPLITS.issuperset(folder.lower() for folder in folders):
        raise BadInput(f"data: {root} holds {', '.join(folders)}; give one of them, for example {root / folders[0]}")
    labelled = all(len(file.parts) == 2 for file in files) and len({file.parts[0] for file in files}) > 1
    names = tuple(folders) if labelled else ()
    index = {name: position for position, name in enumerate(names)}
    items = tuple(Item(ImageFile(root / file), index.get(file.parts[0]), str(file)) for file in files)
    return Dataset(items, names)


def _images_below(root: Path, folders: Sequence[str]) -> list[Path]:
    """The image files of `root` and, at any depth, of `folders` (which may be links), relative to `root`, sorted."""
    found = [file for file in root.iterdir() if file.is_file()]
    for folder in folders:
        found += [Path(place) / file for place, _, files in os.walk(root / folder) for file in files]
    images = [file.relative_to(root) for file in found if file.suffix.lower() in SUFFIXES]
    return sorted(file for file in images if not any(part.startswith(".") for part in file.parts))


@dataclass(frozen=True)
class _Row:
    """One line of `labels.csv`."""

    line: int
    file: str
    label: str
    name: str
    group: str


def _read_table(path: Path) -> Dataset:
    rows, column = _rows(path)
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
        Item(ImageFile(path.parent / row.file), target, row.group) for row, target in zip(rows, targets, strict=True)
    )
    return Dataset(items, names, indexed)


def _rows(path: Path) -> tuple[list[_Row], str]:
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
    _check_files(path, rows)
    return rows, column


def _check_files(path: Path, rows: Sequence[_Row]) -> None:
    """Raises BadInput when a file is missing or listed twice, or when there is none."""
    if not rows:
        raise BadInput(f"data: {path} lists no image; write one line per image under the header")
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
