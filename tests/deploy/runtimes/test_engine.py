"""Our own engine as a runtime: what it refuses, and graphs whose ends run on ONNX Runtime."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from shoestring import engine as own
from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.runtimes import TensorSpec, onnxruntime

if own.why_absent():
    pytest.skip(own.why_absent(), allow_module_level=True)

from shoestring.deploy.runtimes import engine

Build = Callable[..., ModelProto]
REFUSES = rf"^engine {own.VERSION} \({own.isas()[0]}\) refuses the graph: "
GRID = {"scale": np.float32(0.5), "zero": np.uint8(10)}
EDGE = [
    helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["codes"], name="quantise"),
    helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["b"], name="dequantise"),
]


def test_it_is_there_after_its_module_was_loaded() -> None:
    assert runtimes.get("engine") is engine
    assert "engine" in runtimes.installed()


def test_literal_execution_is_refused(quantised: ModelProto) -> None:
    with pytest.raises(BadInput, match="run the graph literally on onnxruntime"):
        engine.open(quantised.SerializeToString(), literal=True)


def test_floats_are_refused_with_what_to_do(floats: ModelProto, mixed: ModelProto) -> None:
    with pytest.raises(BadInput, match=REFUSES + "it computes in integers only.*; fit the graph, or use onnxruntime"):
        engine.open(floats.SerializeToString())
    with pytest.raises(BadInput, match=REFUSES + r"depthwise.0 \(Conv\): its weight is not quantised; quantise"):
        engine.open(mixed.SerializeToString())


@pytest.mark.parametrize("threads", [-1, 100000])
def test_threads_that_cannot_be_are_refused(quantised: ModelProto, threads: int) -> None:
    with pytest.raises(BadInput, match=f"{threads} threads asked for"):
        engine.open(quantised.SerializeToString(), threads=threads)


def test_many_images_are_each_by_itself(quantised: ModelProto, inputs: list[np.ndarray]) -> None:
    session = engine.open(quantised.SerializeToString())
    (together,) = session(np.concatenate(inputs))
    assert np.array_equal(together, np.concatenate([session(x)[0] for x in inputs]))


def test_codes_may_be_inputs_and_outputs(build: Build) -> None:
    model = build([helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["y"])], GRID, [2, 3], [2, 3])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    session = engine.open(model.SerializeToString())
    assert session.inputs == (TensorSpec("x", (2, 3), np.dtype(np.uint8)),)
    x = np.array([[0, 10, 255], [1, 2, 3]], np.uint8)
    assert session(x)[0].tolist() == ((x.astype(np.float32) - 10) / 2).tolist()
    with pytest.raises(BadInput, match="input x is float32; give uint8"):
        session(x.astype(np.float32))


def with_ends(build: Build) -> ModelProto:
    """What the engine lacks before and behind: a difference of floats, a cumulative sum. Open batch."""
    nodes: list[NodeProto] = [
        helper.make_node("Sub", ["x", "mean"], ["a"], name="less"),
        *EDGE,
        helper.make_node("CumSum", ["b", "axis"], ["y"], name="sum"),
    ]
    constants = GRID | {"mean": np.array([1, 2, 3], np.float32), "axis": np.int64(1)}
    model = build(nodes, constants, ["n", 3], ["n", 3])
    model.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 3]))
    return model


def test_ends_run_on_another_runtime(build: Build) -> None:
    model = with_ends(build).SerializeToString()
    x = np.random.default_rng(0).uniform(-8, 80, (4, 3)).astype(np.float32)
    session, other = engine.open(model, threads=2), onnxruntime.open(model)
    assert (session.inputs, session.outputs) == (other.inputs, other.outputs)
    for got, expected in zip(session(x), other(x), strict=True):
        assert np.array_equal(got, expected)
    assert all(step.label and step.bytes == 3 * 5 and not step.multiplies for step in session.steps())


def test_profiles_have_the_ends_too(build: Build) -> None:
    session = engine.open(with_ends(build).SerializeToString(), profile=True)
    times = session.profile(np.zeros((1, 3), np.float32), runs=2)
    assert {"less", "sum"} < times.keys() and all(ms >= 0 for ms in times.values())


def test_a_wrong_number_of_inputs_is_refused(quantised: ModelProto) -> None:
    with pytest.raises(BadInput, match="2 inputs given; the network takes 1"):
        engine.open(quantised.SerializeToString())(np.zeros(1), np.zeros(1))
