"""Older files and open batch axes: the outputs before and after, on ONNX Runtime, which reads all opsets."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, checker, helper

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.rewrite import IR_VERSION, OPSET, infer, shapes, tidy
from shoestring.deploy.versions import to_opset

Build = Callable[..., ModelProto]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 4, 8, 8), dtype=np.float32)
CONSTANTS = {
    "w": RNG.standard_normal((4, 4, 3, 3), dtype=np.float32),
    "low": np.float32(0),
    "high": np.float32(6),
    "split": np.array([1, 3]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "fc": RNG.standard_normal((5, 4), dtype=np.float32),
}


def network(build: Build, opset: int, batch: int | str = 1) -> ModelProto:
    """Operators whose form changed between opset 13 and 21."""
    split = {"num_outputs": 2} if opset >= 18 else {}
    mean = helper.make_node("ReduceMean", ["m"], ["p"], axes=[2, 3], keepdims=0)
    if opset >= 18:
        mean = helper.make_node("ReduceMean", ["m", "axes"], ["p"], keepdims=0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("Split", ["r"], ["a", "b"], axis=1, **split),
        helper.make_node("Concat", ["b", "a"], ["k"], axis=1),
        helper.make_node("Resize", ["k", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("AveragePool", ["u"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        mean,
        helper.make_node("Gemm", ["p", "fc"], ["y"], transB=1),
    ]
    constants = {name: value for name, value in CONSTANTS.items() if name != "split"}
    if opset >= 18:
        constants["axes"] = np.array([2, 3])
    return build(nodes, constants, [batch, 4, 8, 8], [batch, 5], opset)


def run(model: ModelProto, x: np.ndarray = X) -> np.ndarray:
    return runtimes.get("onnxruntime").open(model.SerializeToString())(x)[0]


@pytest.mark.parametrize("opset", range(13, 23))
def test_files_are_brought_to_our_opset(build: Build, opset: int) -> None:
    old = network(build, opset)
    new = to_opset(old, OPSET)
    assert [(item.domain, item.version) for item in new.opset_import] == [("", OPSET)]
    assert new.ir_version == IR_VERSION
    checker.check_model(new, full_check=True)
    assert np.allclose(run(new), run(old), atol=1e-6)
    assert np.allclose(run(tidy(new)), run(old), atol=1e-5)
    assert old == network(build, opset)  # a copy


@pytest.mark.parametrize("batch", ["batch", 0])
def test_an_open_batch_becomes_one(build: Build, batch: int | str) -> None:
    model = network(build, 17, "batch")
    if not batch:
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].ClearField("dim_param")
    known = shapes(infer(to_opset(model, OPSET)))
    assert known["x"] == (1, 4, 8, 8) and known["y"] == (1, 5)


def test_other_open_axes_of_inputs_are_refused(build: Build) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], {}, [1, 3, "height", 8], [1, 3, "height", 8])
    with pytest.raises(BadInput, match="axis 2 of x has no fixed length"):
        to_opset(model, OPSET)


def test_open_axes_of_outputs_follow_from_the_input(build: Build) -> None:
    """An output's first axis need not be the batch."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Transpose", ["f"], ["y"], perm=[1, 0])]
    model = build(nodes, {}, ["batch", 3, 2, 2], ["features", "batch"])
    assert shapes(infer(to_opset(model, OPSET)))["y"] == (12, 1)


def test_initialisers_are_no_inputs(build: Build) -> None:
    """IR 3 listed both."""
    model = network(build, 13)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4, 3, 3]))
    new = to_opset(model, OPSET)
    assert [value.name for value in new.graph.input] == ["x"]
    assert np.allclose(run(new), run(network(build, 13)), atol=1e-6)


def test_what_cannot_be_converted_is_refused(build: Build) -> None:
    node = helper.make_node("Upsample", ["x", "s"], ["y"], mode="linear")  # gone since opset 10
    model = build([node], {"s": np.array([1, 1, 2, 2], np.float32)}, [1, 3, 8, 8], [1, 3, 16, 16], 9)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BadInput, match="opset 9 cannot be brought to 21: ") as refused:
        to_opset(model, OPSET)
    assert "\n" not in str(refused.value)


def test_functions_on_points_are_not_lost(on_points: ModelProto, clouds: list[np.ndarray]) -> None:
    """The converter drops functions."""
    old = ModelProto()
    old.CopyFrom(on_points)
    (own,) = [entry for entry in old.opset_import if not entry.domain]
    own.version = 20
    new = to_opset(old, OPSET)
    assert sorted(function.name for function in new.functions) == sorted(f.name for f in old.functions)
    assert np.array_equal(run(new, clouds[0]), run(on_points, clouds[0]))
