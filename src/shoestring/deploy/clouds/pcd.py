"""`.pcd`: the point cloud library's format 0.7; text, binary, and binary_compressed (LZF, column after column)."""

import io

import numpy as np
from numpy.typing import NDArray

from shoestring.deploy.clouds.raw import MAX_BYTES, require_count, whole
from shoestring.deploy.clouds.text import numbers

_HEADER = 2**14  # bytes at most
_ROW = 4096  # bytes of one point
_LONGEST = 264  # bytes that LZF writes for 3


def pcd(data: bytes) -> NDArray[np.floating]:
    """[n, 3]; points that an organised cloud lacks are NaN, as they are written."""
    head, form, start = _header(data)
    names, dtype = _row(head)
    count = whole(head["POINTS"][0]) if "POINTS" in head else whole(head["WIDTH"][0]) * whole(head["HEIGHT"][0])
    require_count(count, 1, len(data) * (_LONGEST if form == "binary_compressed" else 1))
    if form == "ascii":
        widths = [int(np.prod(dtype[i].shape, dtype=int)) for i in range(len(names))]
        places = [sum(widths[: names.index(axis)]) for axis in "xyz"]
        return numbers(io.BytesIO(data[start:]), places, count)
    if form == "binary":
        require_count(count, dtype.itemsize, len(data) - start)
        table = np.frombuffer(data, dtype, count, start)
        return np.stack([_real(table[str(names.index(axis))]) for axis in "xyz"], axis=1)
    return _compressed(data, start, names, dtype, count)


def _header(data: bytes) -> tuple[dict[str, list[str]], str, int]:
    """The fields of the header by name, the form of the data, and where it starts."""
    end = data.find(b"DATA", 0, _HEADER)
    start = data.find(b"\n", end) + 1
    if end < 0 or not start:
        raise ValueError("no header of a pcd file")
    lines = (line.split() for line in data[:start].decode("latin1").splitlines() if not line.startswith("#"))
    head = {words[0]: words[1:] for words in lines if len(words) > 1}
    form = " ".join(head.get("DATA", ()))
    if form not in ("ascii", "binary", "binary_compressed") or not {"FIELDS", "SIZE", "TYPE"} <= set(head):
        raise ValueError("the header lacks FIELDS, SIZE, TYPE or DATA")
    if not ("POINTS" in head or {"WIDTH", "HEIGHT"} <= set(head)):
        raise ValueError("the header lacks POINTS")
    return head, form, start


def _row(head: dict[str, list[str]]) -> tuple[list[str], np.dtype[np.void]]:
    """The names, and one point; its fields are called by number, because `_` fills gaps and may come twice."""
    names, sizes, kinds = head["FIELDS"], head["SIZE"], head["TYPE"]
    counts = [whole(count) for count in head.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(sizes) == len(kinds) == len(counts) or not {"x", "y", "z"} <= set(names):
        raise ValueError("the header does not tell x, y, z")
    if not set(zip(kinds, sizes, strict=True)) <= {(k, s) for k in "IUF" for s in "1248"} - {("F", "1"), ("F", "2")}:
        raise ValueError("an unknown TYPE or SIZE")
    if sum(int(size) * count for size, count in zip(sizes, counts, strict=True)) > _ROW or min(counts) < 1:
        raise ValueError(f"a point of no or more than {_ROW} bytes")
    types = [f"<{kind.lower()}{size}" for kind, size in zip(kinds, sizes, strict=True)]
    fields = [(str(i), of, *([count] if count > 1 else [])) for i, (of, count) in enumerate(zip(types, counts))]  # noqa: B905
    if any(counts[names.index(axis)] > 1 for axis in "xyz"):
        raise ValueError("x, y, z are one number each")
    return names, np.dtype(fields)


def _compressed(
    data: bytes, start: int, names: list[str], dtype: np.dtype[np.void], count: int
) -> NDArray[np.floating]:
    packed, size = (int.from_bytes(data[at : at + 4], "little") for at in (start, start + 4))
    if size != count * dtype.itemsize or size > MAX_BYTES or start + 8 + packed > len(data):
        raise ValueError("the compressed data does not have the size that the header tells")
    plain = lzf(data[start + 8 : start + 8 + packed], size)
    before = np.cumsum([0] + [dtype[i].itemsize for i in range(len(names))])
    places = [names.index(axis) for axis in "xyz"]
    return np.stack([_real(np.frombuffer(plain, dtype[i], count, before[i] * count)) for i in places], axis=1)


def lzf(packed: bytes, size: int) -> bytes:
    """Undoes LibLZF. Raises ValueError when that does not give exactly `size` bytes."""
    out, at, end = bytearray(), 0, len(packed)
    try:
        while at < end and len(out) <= size:
            control = packed[at]
            at += 1
            if control < 32:  # so many bytes and one as they are
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[at]
                at += 1
            back = len(out) - ((control & 31) << 8) - packed[at] - 1
            at += 1
            length += 2
            if back < 0:
                raise ValueError("broken compressed data")
            piece = out[back : back + length]
            out += (piece * (length // len(piece) + 1))[:length]  # a copy may run into itself
    except IndexError:
        raise ValueError("the compressed data ends early") from None
    if len(out) != size:
        raise ValueError("the compressed data does not have the size that the header tells")
    return bytes(out)


def _real(values: NDArray[np.generic]) -> NDArray[np.floating]:
    return values.astype(np.float32 if values.dtype.itemsize < 4 or values.dtype == np.float32 else np.float64)
