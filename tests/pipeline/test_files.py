"""Files as graphs: what is read, tried and refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.rewrite import OPSET, shapes
from shoestring.deploy.walk import section
from shoestring.pipeline.files import opened, stored, usable_runtime


@pytest.fixture
def measured(onnx_files: Mapping[str, Path], tmp_path: Path) -> Callable[[object], str]:
    """`measured(runtime)`: a .shoe that says it was measured on that."""

    def write(runtime: object) -> str:
        path = tmp_path / "x.shoe"
        members = {"model.onnx": onnx_files["float"].read_bytes()}
        spec = {"kind": "tensor", "shape": [3, 32, 32]}
        shoe.write(path, shoe.Contents(spec, (), (Point("model.onnx", measured={"runtime": runtime}),), members))
        return str(path)

    return write


def test_the_graph_in_a_file(measured, onnx_files: Mapping[str, Path]) -> None:
    path = onnx_files["float"]
    assert stored(measured("onnxruntime")) == stored(str(path)) == path.read_bytes()


def test_a_chain_of_points_is_one_graph(onnx_files: Mapping[str, Path], tmp_path: Path) -> None:
    path, whole = str(tmp_path / "x.shoe"), onnx.load(onnx_files["float"])
    whole.graph.node[-1].name = "last"
    handed = whole.graph.node[-1].input[0]
    given, answer = whole.graph.input[0].name, whole.graph.output[0].name
    first, rest = section(whole, given, [handed]), section(whole, handed, [answer])
    members = {"first.onnx": first.SerializeToString(), "rest.onnx": rest.SerializeToString()}
    points = Point("first.onnx"), Point("rest.onnx", after=0)
    spec = {"kind": "tensor", "shape": [3, 32, 32]}
    shoe.write(path, shoe.Contents(spec, (), points, members))
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    one, other = (
        runtimes.get("onnxruntime").open(data, threads=1) for data in (stored(path), whole.SerializeToString())
    )
    np.testing.assert_allclose(one(x)[0], other(x)[0], rtol=1e-5)
    shoe.write(path, shoe.Contents(spec, (), points, {**members, "rest.onnx": onnx_files["old"].read_bytes()}))
    with pytest.raises(BadInput, match=r"x\.shoe: "):
        opened(stored(path), path, "onnxruntime")


def test_a_graph_is_opened_at_our_opset_with_all_shapes(onnx_files: Mapping[str, Path]) -> None:
    path = str(onnx_files["old"])
    model = opened(stored(path), path, "onnxruntime")
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [OPSET]
    assert {node.output[0] for node in model.graph.node} <= set(shapes(model))


def test_what_is_refused_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "model.tflite").write_text("")
    refused = {"none.onnx": "cannot be read", "none.shoe": "cannot be read", "model.tflite": "is neither a .shoe nor"}
    for name, reason in refused.items():
        with pytest.raises(BadInput, match=reason) as error:
            stored(str(tmp_path / name))
        assert str(error.value).startswith(str(tmp_path / name))
    with pytest.raises(BadInput, match=r"text\.onnx: "):
        opened(stored(str(tmp_path / "text.onnx")), "text.onnx", "onnxruntime")


def test_the_runtime_a_file_was_measured_on(measured, onnx_files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda: ("onnxruntime", "openvino"))
    assert usable_runtime(measured("openvino")) == "openvino"
    assert usable_runtime(str(onnx_files["float"])) == "onnxruntime"


@pytest.mark.parametrize("runtime", ["tvm", 3, None, "openvino"])
def test_a_runtime_that_is_not_here(runtime: object, measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda: ("onnxruntime",))
    assert usable_runtime(measured(runtime)) == "onnxruntime"
