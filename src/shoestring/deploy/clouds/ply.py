"""`.ply`: the polygon file format (Turk 1994), text and binary of both byte orders."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from shoestring.deploy.clouds.raw import MAX_TRIANGLES, Mesh, require_count, whole
from shoestring.deploy.clouds.text import fan, numbers, polygons

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float": "f4",
    "double": "f8",
    "float32": "f4",
    "float64": "f8",
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER = 2**16  # bytes at most
_CORNERS = 4096  # of one polygon


@dataclass(frozen=True)
class _Property:
    """`length`: the type of a list's length; empty for what is no list."""

    name: str
    type: str
    length: str = ""


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[_Property, ...]

    @property
    def lists(self) -> bool:
        return any(item.length for item in self.properties)


def ply(data: bytes) -> NDArray[np.floating] | Mesh:
    """The points, or the mesh where there are faces."""
    order, elements, start = _header(data)
    vertices: NDArray[np.floating] | None = None
    triangles = np.empty((0, 3), np.int64)
    body = _Text(data, start) if not order else _Binary(data, start, order)
    needed = {"vertex", "face"} & {element.name for element in elements}
    for element in elements:
        if element.name == "vertex":
            vertices = body.vertices(element)
        elif element.name == "face" and element.count:
            triangles = body.faces(element)
        else:
            body.skip(element)
        needed.discard(element.name)
        if not needed:
            break
    if vertices is None:
        raise ValueError("no element vertex")
    return Mesh(vertices.astype(np.float64), triangles) if len(triangles) else vertices


def _header(data: bytes) -> tuple[str, tuple[_Element, ...], int]:
    """Byte order (empty: text), elements, and where the body starts."""
    end = data.find(b"end_header", 0, _HEADER)
    start = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or not start:
        raise ValueError("no header of a ply file")
    lines = [line.split() for line in data[:end].decode("latin1").splitlines()]
    order, elements = "", list[_Element]()
    for words in lines:
        match words:
            case ["format", name, _] if name in _ORDERS:
                order = _ORDERS[name]
            case ["format", *_]:
                raise ValueError("an unknown format of ply")
            case ["element", name, count]:
                elements.append(_Element(name, require_count(whole(count), 1, len(data), name), ()))
            case ["property", *rest] if elements:
                last = elements.pop()
                elements.append(_Element(last.name, last.count, (*last.properties, _property(rest))))
    return order, tuple(elements), start


def _property(words: Sequence[str]) -> _Property:
    match words:
        case ["list", length, kind, name] if _TYPES.get(length, "f")[0] in "iu" and kind in _TYPES:
            return _Property(name, _TYPES[kind], _TYPES[length])
        case [kind, name] if kind in _TYPES:
            return _Property(name, _TYPES[kind])
    raise ValueError(f"property {' '.join(words)[:40]}")


def _places(element: _Element) -> list[int]:
    """Which properties are x, y and z."""
    names = [item.name for item in element.properties]
    if element.lists or not {"x", "y", "z"} <= set(names):
        raise ValueError("a vertex has no x, y, z")
    return [names.index(axis) for axis in "xyz"]


def _polygon(element: _Element) -> int:
    """Which property is the list of corners."""
    found = [i for i, item in enumerate(element.properties) if item.length and item.name.startswith("vertex_ind")]
    if not found or element.count > MAX_TRIANGLES:
        raise ValueError(f"{element.count} faces" if found else "faces without vertex_indices")
    return found[0]


class _Text:
    """A body of lines."""

    def __init__(self, data: bytes, start: int):
        self._lines = io.BytesIO(data)
        self._lines.seek(start)

    def vertices(self, element: _Element) -> NDArray[np.floating]:
        return numbers(self._lines, _places(element), element.count)

    def faces(self, element: _Element) -> NDArray[np.int64]:
        if _polygon(element) != 0:
            raise ValueError("vertex_indices is not the first property of a face")
        lines = list(islice(self._lines, element.count))
        if len(lines) < element.count:
            raise ValueError("the file ends before its faces")
        return polygons(lines)

    def skip(self, element: _Element) -> None:
        for _ in islice(self._lines, element.count):
            pass


class _Binary:
    """A body of packed rows."""

    def __init__(self, data: bytes, start: int, order: str):
        self._data, self._at, self._order = data, start, order

    def vertices(self, element: _Element) -> NDArray[np.floating]:
        places = _places(element)
        table = self._table(element, 0)
        wide = any(element.properties[place].type in ("f8", "i4", "u4") for place in places)
        return np.stack([table[str(place)].astype(np.float64 if wide else np.float32) for place in places], axis=1)

    def faces(self, element: _Element) -> NDArray[np.int64]:
        place = _polygon(element)
        if sum(bool(item.length) for item in element.properties) == 1:
            start, corners = self._at, self._first_length(element)
            try:
                table = self._table(element, corners)
            except ValueError:  # the first polygon may be the largest
                table = None
            if table is not None and (table[f"{place} length"] == corners).all():
                lists = table[str(place)].astype(np.int64).reshape(element.count, corners)
                return np.concatenate([lists[:, [0, i, i + 1]] for i in range(1, corners - 1)] or [lists[:0, :3]])
            self._at = start
        return self._walked(element, place)

    def skip(self, element: _Element) -> None:
        if element.lists:
            self._walked(element, -1)
        else:
            self._table(element, 0)

    def _table(self, element: _Element, corners: int) -> NDArray[np.void]:
        """All rows at once, of lists that are `corners` long; properties are called by number, lengths `N length`."""
        fields: list[tuple[str, str] | tuple[str, str, int]] = []
        for place, item in enumerate(element.properties):
            if item.length:
                fields += [(f"{place} length", self._order + item.length)]
                fields += [(str(place), self._order + item.type, corners)] if corners != 1 else []
            else:
                fields += [(str(place), self._order + item.type)]
        dtype = np.dtype(fields)
        require_count(element.count, dtype.itemsize, len(self._data) - self._at, element.name)
        table = np.frombuffer(self._data, dtype, element.count, self._at)
        self._at += table.nbytes
        return table

    def _first_length(self, element: _Element) -> int:
        """How long the list is in the first row."""
        at = self._at
        for item in element.properties:
            if item.length:
                return self._length(item, at)
            at += np.dtype(item.type).itemsize
        raise ValueError("no list")

    def _length(self, item: _Property, at: int) -> int:
        size = np.dtype(item.length).itemsize
        kind = {"<": "little", ">": "big"}[self._order]
        if at + size > len(self._data):
            raise ValueError("the file ends before its faces")
        length = int.from_bytes(self._data[at : at + size], kind, signed=item.length[0] == "i")  # type: ignore[arg-type]
        if not 0 <= length <= _CORNERS:
            raise ValueError(f"a list of {length}")
        return length

    def _walked(self, element: _Element, place: int) -> NDArray[np.int64]:
        """Row by row, for lists of different lengths: the triangles of the list at `place`."""
        fans: list[tuple[int, int, int]] = []
        for _ in range(element.count):
            for number, item in enumerate(element.properties):
                count = 1
                if item.length:
                    count = self._length(item, self._at)
                    self._at += np.dtype(item.length).itemsize
                size = count * np.dtype(item.type).itemsize
                if self._at + size > len(self._data):
                    raise ValueError("the file ends before its faces")
                if number == place:
                    row = np.frombuffer(self._data, self._order + item.type, count, self._at)
                    fans += fan([int(index) for index in row])
                self._at += size
            if len(fans) > MAX_TRIANGLES:
                raise ValueError(f"more than {MAX_TRIANGLES} triangles")
        return np.array(fans, np.int64).reshape(-1, 3)
