"""The point cloud library's files; LZF against a compressor written here."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.deploy.clouds.pcd import lzf, pcd

HEAD = (
    "# .PCD v0.7\nVERSION 0.7\nFIELDS rgb x _ z y\nSIZE 4 4 1 8 4\nTYPE U F U F F\nCOUNT 1 1 3 1 1\n"
    "WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nDATA {}\n"
)
ROW = np.dtype([("rgb", "<u4"), ("x", "<f4"), ("_", "u1", 3), ("z", "<f8"), ("y", "<f4")])
TABLE = np.array([(7, 1, (0, 0, 0), 3, 2), (8, 4, (0, 0, 0), 6, 5)], ROW)


def squeezed(data: bytes) -> bytes:
    """LZF by brute force: the longest copy from the last 8 KiB, or one byte as it is."""
    out, at = b"", 0
    while at < len(data):
        best, back = 0, 0
        for start in range(max(0, at - 8192), at):
            length = 0
            while at + length < len(data) and length < 264 and data[start + length] == data[at + length]:
                length += 1
            if length > best:
                best, back = length, at - start - 1
        if best < 3:
            out += bytes([0, data[at]])
            at += 1
            continue
        rest = best - 2
        first = bytes([(min(rest, 7) << 5) | (back >> 8)]) + (bytes([rest - 7]) if rest >= 7 else b"")
        out += first + bytes([back & 255])
        at += best
    return out


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5), st.integers(1, 80)), max_size=3))
def test_lzf(pieces: list[tuple[bytes, int]]) -> None:
    data = b"".join(piece * times for piece, times in pieces)
    assert lzf(squeezed(data), len(data)) == data


@pytest.mark.parametrize("packed", [b"\x20\x00", b"\xe0", b"\x00", b"\x01a"])
def test_broken_lzf(packed: bytes) -> None:
    with pytest.raises(ValueError, match="compressed data"):
        lzf(packed, 4)


def test_fields_in_any_order_with_gaps() -> None:
    text = "7 1 0 0 0 3 2\n8 4 0 0 0 6 5\n"
    columns = b"".join(np.ascontiguousarray(TABLE[name]).tobytes() for name in TABLE.dtype.names or ())
    packed = squeezed(columns)
    files = {
        "ascii": text.encode(),
        "binary": TABLE.tobytes(),
        "binary_compressed": struct.pack("<II", len(packed), len(columns)) + packed,
    }
    for form, body in files.items():
        found = pcd(HEAD.format(form).encode() + body)
        assert found.tolist() == [[1, 2, 3], [4, 5, 6]], form
        assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DATA binary", "DATA zip", "DATA"),
        ("FIELDS", "NAMES", "FIELDS"),
        ("HEIGHT 1", "HIGH 1", "POINTS"),
        ("FIELDS rgb x", "FIELDS rgb u", "x, y, z"),
        ("TYPE U F U", "TYPE U G U", "TYPE or SIZE"),
        ("SIZE 4 4 1", "SIZE 4 2 1", "TYPE or SIZE"),
        ("COUNT 1 1 3", "COUNT 1 1 30000", "4096 bytes"),
        ("COUNT 1 1 3", "COUNT 1 1 0", "4096 bytes"),
        ("COUNT 1 1 3", "COUNT 1 2 3", "one number each"),
        ("WIDTH 2", "WIDTH 3", "ends before"),
        ("# .PCD", "# " + "x" * 20_000, "no header"),
    ],
)
def test_odd_headers(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pcd(HEAD.format("binary").replace(old, new).encode() + TABLE.tobytes())
