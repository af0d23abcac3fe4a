"""OpenVINO's own matters: precision, no literal execution."""

import os

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from shoestring.core.errors import BadInput
from shoestring.deploy import geometry
from shoestring.measure.machine import cores, isa, pinned

pytest.importorskip("openvino")

from shoestring.deploy.runtimes import onnxruntime, openvino


def test_literal_execution_is_refused(classifier: ModelProto) -> None:
    with pytest.raises(BadInput, match="run the graph literally on onnxruntime"):
        openvino.open(classifier.SerializeToString(), literal=True)


def test_bf16_is_the_default_where_the_processor_has_it() -> None:
    has = any(name in isa() for name in ("avx512_bf16", "amx_bf16"))
    assert openvino.default_precision() == ("bf16" if has else "fp32")


def test_what_samples_points_is_never_in_bf16(on_points: ModelProto, classifier: ModelProto, clouds) -> None:
    """And is not said to be."""
    assert openvino.default_precision(on_points.SerializeToString()) == "fp32"
    assert openvino.default_precision(classifier.SerializeToString()) == openvino.default_precision()
    exact = onnxruntime.open(on_points.SerializeToString())(clouds[0])[0]
    assert np.allclose(openvino.open(on_points.SerializeToString())(clouds[0])[0], exact, atol=1e-5)


def test_fp32_is_fp32(floats: ModelProto, inputs: list[np.ndarray]) -> None:
    """A rounding of bfloat16 is 2^-9; nothing that large may be between this and ONNX Runtime's floats."""
    exact = onnxruntime.open(floats.SerializeToString())(inputs[0])[0]
    got = openvino.open(floats.SerializeToString(), precision="fp32")(inputs[0])[0]
    assert np.linalg.norm(got - exact) < 1e-5 * np.linalg.norm(exact)


def test_inputs_need_not_be_contiguous(classifier: ModelProto) -> None:
    session = openvino.open(classifier.SerializeToString(), precision="fp32")
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32)
    strided = x.transpose(0, 3, 1, 2)
    assert not strided.flags.c_contiguous
    assert np.array_equal(session(strided)[0], session(np.ascontiguousarray(strided))[0])


@pytest.mark.skipif(cores() < 2, reason="one core cannot be left for another")
def test_a_session_does_not_move_its_caller_to_another_core(classifier: ModelProto) -> None:
    """Opened while pinned and run afterwards, it once took the caller back to the one core, for good."""
    x = np.zeros((1, 3, 8, 8), np.float32)
    with pinned(1):
        session = openvino.open(classifier.SerializeToString())
        session(x)
    before = os.sched_getaffinity(0)
    session(x)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("points", [9, 40, 700])
def test_of_equal_distances_the_lower_index_comes_first(points: int) -> None:
    """It ranks in any order unless told otherwise."""
    rng = np.random.default_rng(points)
    xyz = rng.integers(0, 2, (2, points, 3)).astype(np.float32)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, xyz.shape) for name in ("centres", "xyz")]
    node = helper.make_node("NearestPoints", ["centres", "xyz"], ["y"], domain="shoestring", count=8)
    output = helper.make_tensor_value_info("y", TensorProto.INT64, [2, points, 8])
    graph = helper.make_graph([node], "ties", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    geometry.define(model)
    squares = np.square(xyz[:, :, None] - xyz[:, None]).sum(3)
    expected = np.argsort(squares, axis=2, kind="stable")[:, :, :8]
    assert np.array_equal(openvino.open(model.SerializeToString())(xyz, xyz)[0], expected)
