"""Point: written and read again, and refused in one line when it is something else."""

import json
from typing import Any

import pytest

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point, chain

POINT = Point(
    "full.onnx",
    weights={"conv1": {"member": "w.npy", "slice": [[0, 8], [0, 3]]}},
    scales={"conv1": "s.npy"},
    bias={"conv1": "b.npy"},
    measured={"ms": 1.25, "runtime": "openvino", "quality": None},
)


LATER = Point("tail.onnx", after=1, confidence={"temperature": 1.5, "threshold": 0.9})


@pytest.mark.parametrize("point", [POINT, Point("m.onnx"), LATER])
def test_what_is_written_is_read(point: Point) -> None:
    assert Point.from_json(json.loads(json.dumps(point.to_json()))) == point
    assert Point.from_json(point.to_json()) == point
    assert Point.from_json({"onnx": point.onnx, "weights": point.weights}).weights == point.weights


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "point has no onnx"),
        ({"onnx": 3}, "point.onnx is a int, not a str"),
        ({"onnx": "m.onnx", "onxn": 1}, "point has the unknown field 'onxn'"),
        ({"onnx": "m.onnx", "scales": {"a": 1}}, r"point.scales\['a'\] is a int"),
        ({"onnx": "m.onnx", "bias": []}, "point.bias is not an object"),
        ({"onnx": "m.onnx", "after": "0"}, "point.after is a str"),
        ({"onnx": "m.onnx", "after": True}, "point.after is a bool"),
        ({"onnx": "m.onnx", "confidence": {"threshold": "0.9"}}, r"point.confidence\['threshold'\] is a str"),
        ([], "point is a list, not an object"),
        (None, "point is a NoneType"),
    ],
)
def test_anything_else_is_refused(data: Any, words: str) -> None:
    with pytest.raises(BadInput, match=f"^{words}.*; write the file again with this version$"):
        Point.from_json(data)


def test_without_exits_a_point_is_written_as_it_always_was() -> None:
    """So that files with one point keep their bytes, and older versions read them."""
    assert set(POINT.to_json()) == {"onnx", "weights", "scales", "bias", "measured"}
    assert set(LATER.to_json()) - set(POINT.to_json()) == {"after", "confidence"}
    assert Point("m.onnx", after=0).to_json()["after"] == 0


def test_a_chain_is_what_is_run_for_its_last_point() -> None:
    points = (Point("a"), Point("b", after=0), Point("c"), Point("d", after=1))
    assert [chain(points, point) for point in range(4)] == [(0,), (0, 1), (2,), (0, 1, 3)]
