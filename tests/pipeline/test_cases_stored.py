"""The original that a `.shoe` carries without its weights, which may come from a stranger (`pipeline/cases.py`)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import shoe
from shoestring.deploy.check import trust
from shoestring.deploy.rewrite import lean, strip_weights
from shoestring.pipeline import device, files
from shoestring.pipeline.cases import case_of

DEVICE = device.here("onnxruntime")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOESTRING_CACHE", str(tmp_path / "cache"))


def classifier(channels: int = 3) -> ModelProto:
    rng = np.random.default_rng(0)
    constants = {
        "stem.weight": rng.standard_normal((8, channels, 3, 3), dtype=np.float32),
        "head.weight": rng.standard_normal((5, 8), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight"], ["c"], name="stem"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "head.weight"], ["y"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], str]:
    """Writes a file whose original is these bytes."""

    def make(original: bytes) -> str:
        graph = lean(classifier())
        trust(graph)
        members = {"model.onnx": graph, shoe.ORIGINAL: original}
        spec = {"kind": "tensor", "shape": [3, 8, 8]}
        shoe.write(tmp_path / "x.shoe", shoe.Contents(spec, (), (Point("model.onnx"),), members))
        return str(tmp_path / "x.shoe")

    return make


def test_a_stored_original_gets_made_up_weights(stored: Callable[[bytes], str]) -> None:
    case = case_of(stored(lean(strip_weights(classifier()))), DEVICE)
    assert not case.trained and any("random weights" in note for note in case.notes)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in case.original.graph.initializer}
    assert sizes == {"stem.weight": (8, 3, 3, 3), "head.weight": (5, 8)}
    assert all(len(t.raw_data) == 4 * np.prod(t.dims) for t in case.original.graph.initializer)
    assert case.int8 is not None and case.layers == ["stem", "head"]


def test_a_stored_original_may_not_ask_for_much(
    stored: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes that would become a terabyte: refused before anything is allocated."""
    huge = strip_weights(classifier())
    del huge.graph.initializer[0].dims[:]
    huge.graph.initializer[0].dims.extend([2**20, 2**20])
    path = stored(lean(huge))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: None)
    with pytest.raises(BadInput, match=r"x\.shoe: its stored original: .* can be filled in") as refused:
        case_of(path, DEVICE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("data", [b"no graph", lean(classifier())[:-30], b""])
def test_a_stored_original_must_be_a_graph(stored: Callable[[bytes], str], data: bytes) -> None:
    with pytest.raises(BadInput, match=r"x\.shoe: ") as refused:
        case_of(stored(data), DEVICE)
    assert "\n" not in str(refused.value)


def test_a_stored_original_is_checked_like_any_graph(stored: Callable[[bytes], str]) -> None:
    evil = strip_weights(classifier())
    evil.graph.node[1].op_type = "PyOp"
    with pytest.raises(BadInput, match=r"x\.shoe: node 'relu' .* is not allowed"):
        case_of(stored(lean(evil)), DEVICE)


def test_a_stored_original_must_take_the_same_input(stored: Callable[[bytes], str]) -> None:
    with pytest.raises(BadInput, match="its original: takes inputs"):
        case_of(stored(lean(strip_weights(classifier(channels=4)))), DEVICE)


def test_the_filled_graph_is_tried_before_it_is_used(
    stored: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(files, "first_load", lambda data, name, runtime: tried.append(data))
    case = case_of(stored(lean(strip_weights(classifier()))), DEVICE)
    weights = numpy_helper.to_array(case.original.graph.initializer[0]).tobytes()
    assert len(tried) == 2 and any(weights in data for data in tried)
