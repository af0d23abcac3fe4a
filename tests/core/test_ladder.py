"""Point: written and read again, and refused in one line when it is something else."""

import json
from typing import Any

import pytest

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point

POINT = Point(
    "full.onnx",
    weights={"conv1": {"member": "w.npy", "slice": [[0, 8], [0, 3]]}},
    scales={"conv1": "s.npy"},
    bias={"conv1": "b.npy"},
    measured={"ms": 1.25, "runtime": "openvino", "quality": None},
)


@pytest.mark.parametrize("point", [POINT, Point("m.onnx")])
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
        ([], "point is a list, not an object"),
        (None, "point is a NoneType"),
    ],
)
def test_anything_else_is_refused(data: Any, words: str) -> None:
    with pytest.raises(BadInput, match=f"^{words}.*; write the file again with this version$"):
        Point.from_json(data)
