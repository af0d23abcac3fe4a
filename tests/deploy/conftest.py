"""What the tests of this room share."""

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SHOESTRING_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def classifier() -> ModelProto:
    """[1, 3, 8, 8] to 5 logits: convolution, ReLU, global pooling, Gemm; opset 21, IR 10. Do not change it, copy it."""
    rng = np.random.default_rng(0)
    tensors = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(4, np.float32),
        "head": rng.standard_normal((5, 4)).astype(np.float32),
        "offset": np.arange(5, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "head", "offset"], ["y"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model
