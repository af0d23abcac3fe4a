"""What goes into a file, read back from a file."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from shoestring.core.ladder import Point
from shoestring.core.receipt import HOLDS, Receipt, Rung, Subject
from shoestring.deploy import shoe
from shoestring.deploy.rewrite import fill_weights
from shoestring.pipeline.artifact import Story, contents, measured, measured_points
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs

STORY = Story({"stem.0": "int8"}, "mse", "latency<=0.5x", 7, {"sha256": "ab", "calibration": 8, "seed": 7})


def test_contents_survive_the_file(original: Original, variants: dict[str, ModelProto], tmp_path: Path, inputs) -> None:
    spec = {"kind": "tensor", "shape": [3, 32, 32]}
    labels = tuple(map(str, range(10)))
    shoe.write(tmp_path / "x.shoe", contents(original, variants["int8"], STORY, spec, labels))
    read = shoe.read(tmp_path / "x.shoe")
    assert (read.preprocess, read.labels, read.points) == (spec, labels, (Point("model.onnx"),))
    graph = onnx.load_from_string(read.onnx())
    assert np.array_equal(outputs(graph, "onnxruntime", inputs), outputs(variants["int8"], "onnxruntime", inputs))


def test_provenance_tells_how_the_file_came_to_be(original: Original, variants: dict[str, ModelProto]) -> None:
    told = contents(original, variants["int8"], STORY, None, ()).provenance
    assert json.loads(json.dumps(told)) == told
    assert told["original"] == {"model": "tiny.py:tiny", "weights": None}
    assert told["methods"] == {"stem.0": "int8"}
    assert (told["ranges"], told["budget"], told["seed"], told["epochs"]) == ("mse", "latency<=0.5x", 7, 0)
    assert told["trained"] is True
    assert told["data"] == {"sha256": "ab", "calibration": 8, "seed": 7}
    assert told["versions"]["python"] == platform.python_version()
    assert told["versions"]["torch"] == version("torch")


def test_the_original_goes_in_without_what_it_knows(original: Original, variants: dict[str, ModelProto]) -> None:
    """Its graph can be timed again, but none of its weights is in the file."""
    stored = contents(original, variants["int8"], STORY, None, ()).members[shoe.ORIGINAL]
    assert len(stored) < 0.6 * len(original.graph.SerializeToString())
    for tensor in original.graph.graph.initializer:
        data = numpy_helper.to_array(tensor)
        if data.dtype == np.float32 and data.size > 16:
            assert data.tobytes() not in stored
    filled = fill_weights(onnx.load_from_string(stored))
    shapes = {tensor.name: list(tensor.dims) for tensor in original.graph.graph.initializer}
    assert {tensor.name: list(tensor.dims) for tensor in filled.graph.initializer} == shapes
    assert [node.name for node in filled.graph.node] == [node.name for node in original.graph.graph.node]


def test_without_preprocessing_tensors_are_taken_as_they_are(original, variants: dict[str, ModelProto]) -> None:
    assert contents(original, variants["int8"], STORY, None, ()).preprocess == {"kind": "tensor", "shape": [3, 32, 32]}


def test_the_point_says_what_was_measured_and_where() -> None:
    subject = Subject("x.shoe", "openvino", 1.5, 1000, peak_mb=60.0, quality=71.0)
    device = {"processor": "a processor", "threads": 2}
    point = measured(Point("model.onnx", bias={"a": "b"}), Receipt(device, subject, (), (), None, (), HOLDS))
    assert (point.onnx, point.bias) == ("model.onnx", {"a": "b"})
    assert point.measured == {
        "runtime": "openvino",
        "latency_ms": 1.5,
        "quality": 71.0,
        "memory_mb": 60.0,
        "processor": "a processor",
        "threads": 2,
    }
    assert Point.from_json(json.loads(json.dumps(point.to_json()))) == pytest.approx(point)


def test_of_several_points_each_says_what_its_rung_does() -> None:
    rungs = Rung("half", 0.5, 60.0, -3.0, -4.0, -2.0, 30.0), Rung("all", 1.0)
    device = {"processor": "a processor", "threads": 1}
    receipt = Receipt(device, Subject("x.shoe", "engine", 1.1, 1000), (), (), None, (), HOLDS, ladder=rungs)
    first, second = measured_points((Point("a.onnx"), Point("b.onnx", after=0)), receipt)
    assert first.measured == {
        "shape": "half",
        "runtime": "engine",
        "latency_ms": 0.5,
        "quality": 60.0,
        "memory_mb": 30.0,
        "processor": "a processor",
        "threads": 1,
    }
    assert (second.after, second.measured["latency_ms"], second.measured["quality"]) == (0, 1.0, None)
