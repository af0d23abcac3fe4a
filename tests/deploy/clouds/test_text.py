"""Numbers in text, against the tables they were written from."""

import io

import numpy as np
import pytest

from shoestring.deploy.clouds.text import fan, indices, numbers, polygons, rows


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3\n4 5 6",
        "1,2,3\r\n4,5,6\r\n",
        "x;y;z;label\n1;2;3;chair\n4;5;6;chair\n",
        "# made by hand\n\n2\n1\t2\t3\t9\n\n4 5 6\n",
        "1 2 3 # first\n4 5 6",
    ],
)
def test_rows(text: str) -> None:
    assert rows(text.encode()).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x01\x02", "binary"),
        (b"", "no line of three numbers"),
        (b"name\n" * 40 + b"1 2 3\n", "no line of three numbers"),
        (b"1 2 3\n4 5\n", "2"),
        (b"1 2 3\n4 five 6\n", "five"),
    ],
)
def test_no_rows(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows(data)


def test_numbers_take_no_line_more() -> None:
    """What follows the points belongs to the next reader."""
    stream = io.BytesIO(b"1 2 3\n\n# remark\n4 5 6\nnext\n")
    assert numbers(stream, (2, 0), 2).tolist() == [[3, 1], [6, 4]]
    assert stream.readline() == b"next\n"
    assert numbers(stream, (0,), 0).shape == (0, 1)
    with pytest.raises(ValueError, match="ends before"):
        numbers(stream, (0,), 1)
    with pytest.raises(ValueError, match="3 lines promised, 1 there"):
        numbers([b"1 2 3"], (0,), 3)


def test_polygons_become_fans() -> None:
    assert polygons([b"3 0 1 2\n", b"3 2 3 0 255 0 0\n"]).tolist() == [[0, 1, 2], [2, 3, 0]]
    assert polygons([b"5 0 1 2 3 4\n", b"\n", b"3 7 8 9 1\n"]).tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4], [7, 8, 9]]
    assert polygons([]).shape == (0, 3)
    assert fan([4, 5]) == []


def test_what_is_no_index_is_no_vertex() -> None:
    assert indices(np.array([1.0, np.nan, 1e30, -np.inf])).tolist() == [1, -1, -1, -1]
