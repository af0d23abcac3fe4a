"""A graph with two exits, cut and put together again."""

from itertools import pairwise

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.chain import alone, cut, edge, join, run
from shoestring.deploy.check import check_graph
from shoestring.deploy.rewrite import IR_VERSION, OPSET
from shoestring.deploy.runtimes import Session

HEADS = ["early", "late"]


def graph(skip: bool = False) -> ModelProto:
    """input -> 3 convolutions in 8 bits, with an exit behind the first two. `skip`: the last one also reads what the
    first one writes."""
    rng, nodes, stored = np.random.default_rng(0), [], {}
    stored |= {
        "step": np.float32(0.05),
        "zero": np.uint8(128),
        "none": np.int8(0),
        "fine": np.full(4, 0.01, np.float32),
    }
    nodes += [helper.make_node("QuantizeLinear", ["input", "step", "zero"], ["codes_in"], name="q_in")]
    nodes += [helper.make_node("DequantizeLinear", ["codes_in", "step", "zero"], ["in"], name="dq_in")]
    read = "in"
    for layer in ("one", "two", "three"):
        nodes += conv(layer, read, stored, rng, quantised=layer != "three")
        read = f"{layer}_read"
    nodes += [*conv("early", "one_read", stored, rng, False), *conv("late", "two_read", stored, rng, False)]
    last = "three_out"
    if skip:
        nodes += [helper.make_node("Add", ["three_out", "one_read"], ["sum"], name="sum")]
        last = "sum"
    shape = [1, 4, 5, 5]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (last, "early_out", "late_out")
    ]
    given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()]
    made = helper.make_graph(nodes, "exits", given, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def conv(name: str, read: str, stored: dict, rng: np.random.Generator, quantised: bool) -> list:
    stored[f"{name}.weight"] = rng.integers(-127, 128, (4, 4, 1, 1), dtype=np.int8)
    weight = helper.make_node(
        "DequantizeLinear", [f"{name}.weight", "fine", "nones"], [f"{name}_w"], name=f"{name}_dq", axis=0
    )
    stored["nones"] = np.zeros(4, np.int8)
    nodes = [weight, helper.make_node("Conv", [read, f"{name}_w"], [f"{name}_out"], name=name)]
    if quantised:
        nodes += [
            helper.make_node("QuantizeLinear", [f"{name}_out", "step", "zero"], [f"{name}_codes"], name=f"{name}_q"),
            helper.make_node("DequantizeLinear", [f"{name}_codes", "step", "zero"], [f"{name}_read"], name=f"{name}_d"),
        ]
    return nodes


@pytest.fixture
def inputs() -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((1, 4, 5, 5), np.float32) for seed in range(5)]


def opened(model: ModelProto, runtime: str = "onnxruntime") -> Session:
    return runtimes.get(runtime).open(model.SerializeToString(), threads=1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "engine"])
def test_a_chain_computes_byte_for_byte_what_the_whole_graph_does(runtime: str, inputs: list[np.ndarray]) -> None:
    if runtime not in runtimes.installed():
        pytest.skip(f"no {runtime} here")
    whole = graph()
    stages = [opened(stage, runtime) for stage in cut(whole, HEADS)]
    assert len(stages) == 3
    session = opened(whole, runtime)
    for x in inputs:
        final, early, late = session(x)
        for found, expected in zip(run(stages, x), (early, late, final), strict=True):
            assert found.tobytes() == expected.tobytes()


def test_codes_are_handed_on(inputs: list[np.ndarray]) -> None:
    stages = [opened(stage) for stage in cut(graph(), HEADS)]
    for before, after in pairwise(stages):
        assert after.inputs == (before.outputs[1],)
        assert after.inputs[0].dtype == np.uint8
    assert [spec.name for stage in stages for spec in stage.outputs] == [
        *("early_out", "one_codes", "late_out", "two_codes", "three_out"),
    ]
    quantisers = [node.name for stage in cut(graph(), HEADS) for node in stage.graph.node if node.name.endswith("_q")]
    assert sorted(quantisers) == ["one_q", "two_q"]  # each once


def test_joined_stages_are_the_network_without_its_exits(inputs: list[np.ndarray]) -> None:
    whole = graph()
    joined = join(cut(whole, HEADS))
    assert [value.name for value in joined.graph.output] == ["three_out"]
    assert not any(node.name in HEADS for node in joined.graph.node)
    for x in inputs:
        assert opened(joined)(x)[0].tobytes() == opened(whole)(x)[0].tobytes() == opened(alone(whole))(x)[0].tobytes()


@pytest.mark.parametrize("what", ["two_w", "fine"])
def test_stages_of_several_graphs_are_not_joined(what: str) -> None:
    """Else what is measured would be another network than what is run."""
    stages = cut(graph(), HEADS)
    if what == "two_w":
        next(node for node in stages[2].graph.node if node.name == "three_dq").output[0] = what
        next(node for node in stages[2].graph.node if node.name == "three").input[1] = what
    else:
        next(tensor for tensor in stages[2].graph.initializer if tensor.name == what).raw_data = bytes(16)
    with pytest.raises(BadInput, match=f"two stages make '{what}' in two ways"):
        join(stages)


def test_one_answer_alone(inputs: list[np.ndarray]) -> None:
    early = alone(graph(), 1)
    assert {node.name for node in early.graph.node if node.op_type == "Conv"} == {"one", "early"}
    assert opened(early)(inputs[0])[0].tobytes() == opened(graph())(inputs[0])[1].tobytes()


def test_where_it_cannot_be_cut() -> None:
    assert edge(graph(), "late") == "two_codes"
    with pytest.raises(BadInput, match="no node 'exit_9'"):
        edge(graph(), "exit_9")
    with pytest.raises(BadInput, match="which does not come through two_codes"):
        cut(graph(skip=True), HEADS)


def test_stages_take_their_functions_along(on_points: ModelProto, clouds: list[np.ndarray]) -> None:
    """The last stage calls none of those that the first one does."""
    whole = ModelProto()
    whole.CopyFrom(on_points)
    whole.graph.output.append(helper.make_tensor_value_info("mean_flatten", TensorProto.FLOAT, None))
    stages = cut(whole, ["head.0"])
    assert [len(stage.functions) for stage in stages] == [3, 0]
    again = join(stages)
    check_graph(again.SerializeToString(), "again")
    got, expected = (runtimes.get("onnxruntime").open(m.SerializeToString())(clouds[0])[0] for m in (again, on_points))
    assert np.array_equal(got, expected)
