"""Files as graphs: what is read, tried and refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.rewrite import OPSET, shapes
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
