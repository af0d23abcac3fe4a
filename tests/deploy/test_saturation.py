"""Activations moved into the codes: the graph before and after computes the same codes, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, helper

from shoestring.deploy import runtimes
from shoestring.deploy.rewrite import initialisers
from shoestring.deploy.saturation import bound_codes

Build = Callable[..., ModelProto]
RELU = (helper.make_node("Relu", ["x"], ["r"], name="relu"),)


def bounded(low: str, high: str, x: str = "x", r: str = "r") -> tuple[NodeProto, ...]:
    return (helper.make_node("Clip", [x, low, high], [r], name=f"clip {x}"),)


def model(
    build: Build, activation: tuple[NodeProto, ...], scale: float, zero: int, codes: tuple[int, int] | None
) -> ModelProto:
    """x -> activation -> grid -> y."""
    constants = {
        "low": np.float32(-0.5), "zero": np.float32(0), "three": np.float32(3), "six": np.float32(6),
        "s": np.float32(scale), "z": np.uint8(zero), "lo": np.uint8((codes or (0,))[0]),
        "hi": np.uint8((codes or (0, 0))[1]),
    }  # fmt: skip
    nodes = [
        *activation,
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"], name="q"),
        *([helper.make_node("Clip", ["q", "lo", "hi"], ["c"], name="c")] if codes else []),
        helper.make_node("DequantizeLinear", ["c" if codes else "q", "s", "z"], ["y"], name="d"),
    ]
    return build(nodes, constants, [1, 4096], [1, 4096])


def run(graph: ModelProto, x: np.ndarray) -> np.ndarray:
    return runtimes.get("onnxruntime").open(graph.SerializeToString(), literal=True)(x)[0]


ACTIVATIONS = {
    "relu": RELU,
    "relu6": bounded("zero", "six"),
    "clip from below": bounded("low", ""),
    "clip from above": bounded("", "three"),
    "relu, then clip": (*RELU, *bounded("low", "three", "r", "k")),
}


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(ACTIVATIONS)),
    st.floats(2**-8, 3, width=32),
    st.integers(0, 255),
    st.none() | st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda pair: (min(pair), max(pair))),
)
def test_nothing_changes(build: Build, name: str, scale: float, zero: int, codes: tuple[int, int] | None) -> None:
    activation = ACTIVATIONS[name]
    before = model(build, activation, scale, zero, codes)
    if activation[-1].output[0] == "k":
        next(n for n in before.graph.node if n.name == "q").input[0] = "k"
    after = ModelProto()
    after.CopyFrom(before)
    bound_codes(after)
    assert not [n for n in after.graph.node if n.op_type == "Relu"]
    clips = [n for n in after.graph.node if n.op_type == "Clip"]
    assert len(clips) <= 1 and all(initialisers(after)[b].dtype == np.uint8 for n in clips for b in n.input[1:])
    x = np.linspace(-9, 9, 4096, dtype=np.float32)[None]
    assert np.array_equal(run(before, x), run(after, x))


def test_where_the_codes_end_there_anyway_nothing_is_left(build: Build) -> None:
    graph = model(build, RELU, 0.1, 0, None)
    bound_codes(graph)
    assert [n.op_type for n in graph.graph.node] == ["QuantizeLinear", "DequantizeLinear"]


def test_two_grids_behind_one_activation(build: Build) -> None:
    graph = model(build, RELU, 0.1, 3, None)
    again = [
        helper.make_node("QuantizeLinear", ["r", "six", "z"], ["q2"], name="q2"),
        helper.make_node("DequantizeLinear", ["q2", "six", "z"], ["d2"], name="d2"),
        helper.make_node("Add", ["d1", "d2"], ["y"], name="sum"),
    ]
    graph.graph.node[-1].output[0] = "d1"
    graph.graph.node.extend(again)
    x = np.linspace(-9, 99, 4096, dtype=np.float32)[None]
    expected = run(graph, x)
    bound_codes(graph)
    assert [n.op_type for n in graph.graph.node].count("Clip") == 2
    assert np.array_equal(run(graph, x), expected)


@pytest.mark.parametrize("case", ["another reader", "an output", "a bound that is no constant", "without zero"])
def test_what_must_stay(build: Build, case: str) -> None:
    graph = model(build, RELU, 0.1, 0, None)
    if case == "another reader":
        graph.graph.node.append(helper.make_node("Add", ["y", "r"], ["z"], name="add"))
    elif case == "an output":
        graph.graph.output.append(helper.make_tensor_value_info("r", 1, [1, 4096]))
    else:
        bound = "six" if case == "without zero" else "computed"
        graph.graph.node[0].CopyFrom(bounded(bound, "")[0])
    before = graph.SerializeToString()
    bound_codes(graph)
    assert graph.SerializeToString() == before
