"""Whole networks, quantised: what becomes integer and what stays float, and that nothing gets lost on the way."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.precision import FLOAT, INT8, INT8_SAFE16, Precision
from shoestring.deploy import parity, quantize, runtimes
from shoestring.deploy.check import check_graph
from shoestring.deploy.normal_form import violations
from shoestring.deploy.quantize import activations, quantise, quantised_nodes
from shoestring.deploy.rewrite import initialisers, tidy

Build = Callable[..., ModelProto]
Fit = Callable[..., ModelProto]
RNG = np.random.default_rng(0)


def run(model: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return runtimes.get("onnxruntime").open(model.SerializeToString())(x)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def nodes_of(model: ModelProto) -> tuple[dict[str, NodeProto], dict[str, list[str]]]:
    """Nodes by name, and the operators that read each tensor."""
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    return {node.name: node for node in model.graph.node}, readers


def is_integer(model: ModelProto, name: str) -> bool:
    """All that node `name` reads is dequantised, and all that it writes is quantised."""
    nodes, readers = nodes_of(model)
    makers = {out: node.op_type for node in model.graph.node for out in node.output}
    node = nodes[name]
    return all(makers[x] == "DequantizeLinear" for x in node.input) and readers[node.output[0]] == ["QuantizeLinear"]


def test_a_network_is_in_integers_but_for_swish_and_output(
    floats: ModelProto, quantised: ModelProto, inputs: list[np.ndarray]
) -> None:
    nodes, readers = nodes_of(quantised)
    for name in ("stem.1", "depthwise.0", "project.0", "grouped", "mix"):
        assert is_integer(quantised, name), name
    se = [node.name for node in floats.graph.node if node.op_type in ("Add", "Mul", "GlobalAveragePool")]
    swish = next(name for name in se if nodes[name].op_type == "Mul" and "grouped/sigmoid" in nodes[name].input)
    for name in (*se, "reduce", "expand", "expand/sigmoid"):
        assert is_integer(quantised, name) == (name != swish), name
    assert len(se) == 5  # residual sum, two means, gate and swish
    # Swish: dequantise, sigmoid, product in floats, quantise.
    assert readers["grouped_DequantizeLinear_Output"] == ["Sigmoid", "Mul"]
    assert readers[nodes["grouped/sigmoid"].output[0]] == ["Mul"]
    assert readers[nodes[swish].output[0]] == ["QuantizeLinear"]
    # The last layer reads integers and writes floats.
    assert nodes["head"].output[0] == "output" == quantised.graph.output[0].name
    assert {node.op_type for node in quantised.graph.node}.isdisjoint({"Relu", "Clip"})  # the grids saturate
    outputs = [np.concatenate([run(model, x)[0] for x in inputs]) for model in (quantised, floats)]
    assert relative(*outputs) < 0.05


def test_the_form_is_kept(quantised: ModelProto, mixed: ModelProto) -> None:
    assert violations(quantised) == violations(mixed) == []


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_a_float_layer_is_computed_in_floats(mixed: ModelProto, inputs: list[np.ndarray], runtime: str) -> None:
    c = initialisers(mixed)
    assert c["mix.weight"].dtype == c["depthwise.0.weight"].dtype == np.float32
    compared = parity.compare(mixed, runtime, inputs[:4])
    assert {edge.layer for edge in compared.edges} >= {"depthwise.0/clip", "mix/relu", "head"}
    assert compared.first_divergence is None, compared.first_divergence


def test_without_its_guard_a_float_layer_is_quantised_by_the_runtime(
    floats: ModelProto,
    precisions: dict[str, Precision],
    inputs: list[np.ndarray],
    fit: Fit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why there is a sum of one term: ONNX Runtime makes int8 of the weights of a float layer between integer ones."""
    monkeypatch.setattr(quantize, "keep_float", lambda model: None)
    unguarded = fit(floats, precisions | {"project.0": FLOAT}, inputs)
    compared = parity.compare(unguarded, "onnxruntime", inputs[:4])
    assert compared.first_divergence is not None and compared.first_divergence.layer == "project.0"
    monkeypatch.undo()
    guarded = fit(floats, precisions | {"project.0": FLOAT}, inputs)
    assert parity.compare(guarded, "onnxruntime", inputs[:4]).first_divergence is None


def test_float_precisions_change_nothing(floats: ModelProto) -> None:
    assert quantise(floats, {}, {"stem.1": FLOAT}) == floats
    assert quantised_nodes(floats, {}) == activations(floats, {}) == []


# Structures in which something could get lost. Each against the float network on the inputs of its calibration.

KERNEL = RNG.standard_normal((4, 4, 3, 3), dtype=np.float32)
BOUNDS: Mapping[str, np.ndarray] = {
    "one": np.float32(1),
    "three": np.float32(3),
    "zero": np.float32(0),
    "six": np.float32(6),
}


def node(operator: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def padded(x: str, weight: str, y: str) -> NodeProto:
    return helper.make_node("Conv", [x, weight], [y], name=weight.removesuffix(".weight"), pads=[1] * 4)


STRUCTURES: dict[str, tuple[list[NodeProto], int]] = {
    "a Relu beside another reader": (
        [
            padded("x", "a.weight", "1"),
            node("Relu", ["1"], "2"),
            padded("2", "b.weight", "3"),
            node("Add", ["1", "3"], "4"),
            padded("4", "c.weight", "y"),
        ],
        3,
    ),
    "a Relu at the end": ([padded("x", "a.weight", "1"), node("Relu", ["1"], "y")], 1),
    "a Clip at the end": ([padded("x", "a.weight", "1"), node("Clip", ["1", "zero", "six"], "y")], 1),
    "a Sigmoid at the end": ([padded("x", "a.weight", "1"), node("Sigmoid", ["1"], "y")], 1),
    "a Clip above zero": (
        [padded("x", "a.weight", "1"), node("Clip", ["1", "one", "three"], "2"), padded("2", "b.weight", "y")],
        2,
    ),
    "a Clip without an end": (
        [padded("x", "a.weight", "1"), node("Clip", ["1", "", "three"], "2"), padded("2", "b.weight", "y")],
        2,
    ),
    "a Clip after a Relu": (
        [
            padded("x", "a.weight", "1"),
            node("Relu", ["1"], "2"),
            node("Clip", ["2", "zero", "six"], "3"),
            padded("3", "b.weight", "y"),
        ],
        2,
    ),
    "a Relu after a pool": (
        [
            padded("x", "a.weight", "1"),
            node("MaxPool", ["1"], "2", kernel_shape=[3, 3], pads=[1] * 4),
            node("Relu", ["2"], "3"),
            padded("3", "b.weight", "y"),
        ],
        2,
    ),
    "an output that is also read": (
        [padded("x", "a.weight", "y"), padded("y", "b.weight", "2"), node("Identity", ["2"], "unread")],
        2,
    ),
    "a layer that is called twice": (
        [
            padded("x", "a.weight", "1"),
            node("Relu", ["1"], "2"),
            helper.make_node("Conv", ["2", "a.weight"], ["y"], pads=[1] * 4),
        ],
        2,
    ),
    "branches that meet": (
        [
            padded("x", "a.weight", "1"),
            padded("x", "b.weight", "2"),
            node("Relu", ["2"], "3"),
            node("Concat", ["1", "3"], "4", axis=1),
            node("Split", ["4"], "5", axis=1, num_outputs=1),
            helper.make_node("Conv", ["5", "wide.weight"], ["y"], name="wide", pads=[1] * 4),
        ],
        3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
def test_nothing_gets_lost(build: Build, fit: Fit, name: str) -> None:
    nodes, count = STRUCTURES[name]
    read = {name for n in nodes for name in n.input}
    given = {f"{letter}.weight": KERNEL * scale for letter, scale in (("a", 0.3), ("b", 0.2), ("c", 0.25))}
    given["wide.weight"] = np.concatenate([KERNEL, -KERNEL], axis=1)
    constants = {name: value for name, value in {**given, **BOUNDS}.items() if name in read}
    model = tidy(build(nodes, constants, [1, 4, 8, 8], [1, 4, 8, 8]))
    layers = [n.name for n in model.graph.node if n.op_type == "Conv"]
    assert len(layers) >= count
    inputs = list(RNG.standard_normal((6, 1, 4, 8, 8), dtype=np.float32))
    quantised = fit(model, dict.fromkeys(layers, INT8_SAFE16), inputs)
    assert not violations(quantised)
    outputs = [np.concatenate([run(m, x)[0] for x in inputs]) for m in (quantised, model)]
    assert relative(*outputs) < 0.04
    assert parity.compare(quantised, "onnxruntime", inputs[:2]).first_divergence is None


def test_shapes_that_are_computed_stay_whole_numbers(build: Build, fit: Fit) -> None:
    """Files exported with open axes compute their Reshapes."""
    nodes = [
        padded("x", "a.weight", "1"),
        node("Relu", ["1"], "2"),
        node("Shape", ["2"], "3"),
        node("Gather", ["3", "first"], "4"),
        node("Concat", ["4", "rest"], "5", axis=0),
        node("Reshape", ["2", "5"], "6"),
        helper.make_node("Gemm", ["6", "b.weight"], ["y"], name="b", transB=1),
    ]
    constants = {
        "a.weight": KERNEL,
        "b.weight": RNG.standard_normal((5, 256), dtype=np.float32),
        "first": np.array([0]),
        "rest": np.array([-1]),
    }
    model = tidy(build(nodes, constants, [1, 4, 8, 8], [1, 5]))
    inputs = list(RNG.standard_normal((4, 1, 4, 8, 8), dtype=np.float32))
    quantised = fit(model, {"a": INT8_SAFE16, "b": INT8_SAFE16}, inputs)
    assert not violations(quantised)
    assert relative(run(quantised, inputs[0])[0], run(model, inputs[0])[0]) < 0.04


def test_impossible_requests_are_refused(floats: ModelProto, build: Build) -> None:
    def refuse(model: ModelProto, precisions: dict[str, Precision], match: str) -> None:
        with pytest.raises(BadInput, match=match) as refused:
            quantise(model, {}, precisions)
        assert "\n" not in str(refused.value)

    refuse(floats, {"stem.1": Precision(4, 8)}, "stem.1 cannot be")
    refuse(floats, {"nothing": INT8}, "no convolution or linear layer 'nothing'")
    refuse(floats, {"grouped/sigmoid": INT8}, "no convolution or linear layer")
    up = helper.make_node("ConvTranspose", ["x", "up.weight"], ["y"])
    refuse(tidy(build([up], {"up.weight": KERNEL}, [1, 4, 8, 8], [1, 4, 10, 10])), {"up": INT8}, "'up'")
    scaled = helper.make_node("Gemm", ["x", "a.weight"], ["y"], alpha=0.5)
    refuse(tidy(build([scaled], {"a.weight": KERNEL[:, :, 0, 0]}, [1, 4], [1, 4])), {"a": INT8}, "alpha")


def test_the_stored_weights_are_integers(quantised: ModelProto) -> None:
    """8 bits a weight; no float weight is left behind."""
    kinds = {t.name: t.data_type for t in quantised.graph.initializer if t.name.endswith("_quantized")}
    assert {kind for name, kind in kinds.items() if ".weight" in name} == {TensorProto.INT8}
    assert {kind for name, kind in kinds.items() if ".bias" in name} == {TensorProto.INT32}
    floats = [numpy_helper.to_array(t) for t in quantised.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert all(value.ndim <= 1 for value in floats)


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_points_are_found_in_floats_and_their_features_carried_as_codes(
    runtime: str, on_points: ModelProto, on_points8: ModelProto, clouds: list[np.ndarray]
) -> None:
    floats, made = on_points, on_points8
    layers = [node.name for node in floats.graph.node if node.op_type in ("Conv", "Gemm")]
    names = activations(floats, dict.fromkeys(layers, INT8_SAFE16))
    assert not {"farthest", "nearest", "take", "take_1", "sub", "mul"}.intersection(names)
    assert not violations(made)
    assert [f.name for f in made.functions] == [f.name for f in floats.functions] and len(made.functions) == 3
    check_graph(made.SerializeToString(), "points")
    makers = {out: node for node in made.graph.node for out in node.output}
    constants = initialisers(made)
    _, reads = nodes_of(made)
    for node in made.graph.node:
        if node.op_type == "TakePoints" and "DequantizeLinear" in node.input[0]:
            before = makers[node.input[0]]
            (after,) = [other for other in made.graph.node if node.output[0] in other.input]
            assert reads[node.output[0]] == ["QuantizeLinear"]
            for one, other in zip(before.input[1:], after.input[1:], strict=True):
                assert np.array_equal(constants[one], constants[other])
    parity.gate(parity.compare(made, runtime, clouds[4:]))
    assert relative(run(made, clouds[5])[0], run(floats, clouds[5])[0]) < 0.2
