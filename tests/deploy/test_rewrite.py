"""Edits of graphs, judged by ONNX Runtime's outputs before and after, and by the names that they promise."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy import rewrite, runtimes
from shoestring.deploy.rewrite import drop_unused, fill_weights, infer, lean, rebatch, shapes, strip_weights, tidy

Build = Callable[..., ModelProto]
STOCK = runtimes.installed(runtimes.STOCK)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 4, 8, 8), dtype=np.float32)
KERNEL = RNG.standard_normal((4, 4, 3, 3), dtype=np.float32)


def run(model: ModelProto, x: np.ndarray = X) -> np.ndarray:
    return runtimes.get("onnxruntime").open(model.SerializeToString())(x)[0]


def conv(x: str, weight: str, y: str, name: str = "") -> onnx.NodeProto:
    return helper.make_node("Conv", [x, weight], [y], name=name, pads=[1] * 4)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, -2]])
@pytest.mark.parametrize("keep", [0, 1])
def test_means_over_height_and_width_become_pools(build: Build, axes: list[int], keep: int) -> None:
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["y"], name="mean", keepdims=keep)
    model = build([mean], {"axes": np.array(axes)}, [1, 4, 8, 8], [1, 4, 1, 1] if keep else [1, 4])
    tidied = tidy(model)
    assert tidied.graph.node[0].op_type == "GlobalAveragePool"
    assert np.allclose(run(tidied), X.mean((2, 3), keepdims=bool(keep)), atol=1e-6)
    assert not tidied.graph.initializer  # the axes are used no more


def test_other_means_stay(build: Build) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "channels"], ["m"], name="m"),
        helper.make_node("Reshape", ["m", "shape"], ["r"], name="r"),
        helper.make_node("ReduceMean", ["r", "last"], ["y"], name="y"),  # two of three axes
    ]
    constants = {"channels": np.array([1]), "shape": np.array([1, 8, 8]), "last": np.array([1, 2])}
    model = build(nodes, constants, [1, 4, 8, 8], [1, 1, 1])
    assert [node.op_type for node in tidy(model).graph.node] == ["ReduceMean", "Reshape", "ReduceMean"]
    assert np.array_equal(run(tidy(model)), run(model))


def test_names_are_those_of_modules(build: Build) -> None:
    nodes = [
        conv("x", "block.conv.weight", "1"),
        helper.make_node("Relu", ["1"], ["2"]),
        conv("2", "block.conv.weight", "3"),  # the same module, called again
        helper.make_node("Relu", ["3"], ["4"]),
        helper.make_node("Add", ["2", "4"], ["5"], name="node_add"),
        helper.make_node("Add", ["5", "4"], ["y"], name="add"),
    ]
    model = build(nodes, {"block.conv.weight": KERNEL}, [1, 4, 8, 8], [1, 4, 8, 8])
    tidied = tidy(model)
    names = ["block.conv", "block.conv/relu", "block.conv:2", "block.conv:2/relu", "add", "add:2"]
    assert [node.name for node in tidied.graph.node] == names
    assert [node.output[0] for node in tidied.graph.node] == [*names[:-1], "y"]
    assert np.array_equal(run(tidied), run(model))


def test_names_never_meet_those_of_constants_and_inputs(build: Build) -> None:
    """Weights that are not called PATH.weight, and nodes called like tensors that keep their names."""
    nodes = [
        conv("x", "onnx::Conv_1", "a", name="onnx::Conv_1"),
        helper.make_node("Relu", ["a"], ["b"], name="x"),
        conv("b", "w", "c", name="w"),
        helper.make_node("Split", ["c"], ["left", "right"], name="s", axis=1, num_outputs=2),
        helper.make_node("Sigmoid", ["left"], ["e"], name="right"),
        helper.make_node("Concat", ["right", "e"], ["y"], name="y", axis=1),
    ]
    model = build(nodes, {"onnx::Conv_1": KERNEL, "w": KERNEL}, [1, 4, 8, 8], [1, 4, 8, 8])
    tidied = tidy(model)
    onnx.checker.check_model(tidied, full_check=True)
    assert np.array_equal(run(tidied), run(model))
    assert [node.name for node in tidied.graph.node[:2]] == ["onnx::Conv_1:2", "onnx::Conv_1:2/relu"]


def test_branches_see_the_new_names_and_keep_their_constants(build: Build) -> None:
    def branch(constant: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4, 8, 8])
        return helper.make_graph([helper.make_node("Add", ["a", constant], ["r"])], "branch", [], [result])

    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("ReduceMax", ["a"], ["m"], name="r", keepdims=0),  # r: also a name inside of the branches
        helper.make_node("Greater", ["m", "zero"], ["c"], name="greater"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("one"), else_branch=branch("zero")),
    ]
    model = build(nodes, {"zero": np.float32(0), "one": np.float32(1), "unused": KERNEL}, [1, 4, 8, 8], [1, 4, 8, 8])
    tidied = tidy(model)
    assert [tensor.name for tensor in tidied.graph.initializer] == ["zero", "one"]
    for x in (X, -np.abs(X)):
        assert np.array_equal(run(tidied, x), run(model, x))


def test_the_exporters_notes_are_gone(build: Build) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"], doc_string="secret")], {}, [1, 4, 8, 8], [1, 4, 8, 8])
    model.graph.node[0].metadata_props.add(key="stack_trace", value="/secret/model.py")
    model.metadata_props.add(key="source", value="secret")
    model.graph.doc_string = "secret"
    assert b"secret" not in tidy(model).SerializeToString()


def test_infer_leaves_its_argument_alone(floats: ModelProto) -> None:
    before = floats.SerializeToString()
    assert shapes(infer(floats)) == shapes(floats)
    assert floats.SerializeToString() == before


def test_shapes_that_contradict_are_refused(build: Build) -> None:
    model = build([helper.make_node("Add", ["x", "w"], ["y"])], {"w": KERNEL}, [1, 4, 8, 8], [1, 4, 8, 8])
    with pytest.raises(BadInput, match="shapes of the graph do not fit") as refused:
        infer(model)
    assert "\n" not in str(refused.value)


def test_shapes(build: Build) -> None:
    model = build([conv("x", "w", "a"), helper.make_node("Relu", ["a"], ["y"])], {"w": KERNEL}, ["n", 4, 8, 8], [1])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert shapes(model) == {"x": (0, 4, 8, 8), "w": (4, 4, 3, 3)}
    assert shapes(infer(model)) == {"x": (0, 4, 8, 8), "w": (4, 4, 3, 3), "a": (0, 4, 8, 8), "y": (0, 4, 8, 8)}


def test_drop_unused_keeps_outputs(build: Build) -> None:
    model = build([helper.make_node("Relu", ["x"], ["z"])], {"y": X, "w": KERNEL}, [1, 4, 8, 8], [1, 4, 8, 8])
    drop_unused(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["y"]


@pytest.mark.parametrize("graph", ["floats", "quantised"])
def test_rebatch(request: pytest.FixtureRequest, inputs: list[np.ndarray], graph: str) -> None:
    model = request.getfixturevalue(graph)
    one, three = run(model, inputs[0]), run(rebatch(model, 3), np.concatenate(inputs[:3]))
    assert three.shape == (3, 5)
    assert np.allclose(three[:1], one, atol=1e-5)
    assert np.allclose(three[2:], run(model, inputs[2]), atol=1e-5)
    assert shapes(model)["input"][0] == 1


@pytest.mark.parametrize("runtime", STOCK)
@pytest.mark.parametrize("graph", ["on_points", "on_points8"])
def test_rebatch_on_points(request: pytest.FixtureRequest, clouds: list[np.ndarray], graph: str, runtime: str) -> None:
    model = request.getfixturevalue(graph)
    alone = runtimes.get(runtime).open(model.SerializeToString())
    together = runtimes.get(runtime).open(rebatch(model, 3).SerializeToString())
    got = together(np.concatenate(clouds[:3]))[0]
    assert np.allclose(got, np.concatenate([alone(x)[0] for x in clouds[:3]]), atol=1e-6)


@pytest.mark.parametrize("shape", [[1, 256], [1, -1], [-1, 256], [0, -1]])
def test_rebatch_reshapes(build: Build, shape: list[int]) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    weight = RNG.standard_normal((256, 5), dtype=np.float32)
    model = build(nodes, {"shape": np.array(shape), "w": weight}, [1, 4, 8, 8], [1, 5])
    x = RNG.standard_normal((2, 4, 8, 8), dtype=np.float32)
    assert np.allclose(run(rebatch(model, 2), x), x.reshape(2, 256) @ weight, atol=1e-4)


def test_a_baked_in_batch_is_refused(build: Build) -> None:
    """4 x 8 x 8 numbers, laid out over axes that the batch is not the first of."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["f"]), helper.make_node("Add", ["f", "c"], ["y"])]
    constants = {"shape": np.array([4, 64]), "c": np.zeros((4, 64), np.float32)}
    with pytest.raises(BadInput, match="cannot run at batch 3"):
        rebatch(build(nodes, constants, [1, 4, 8, 8], [4, 64]), 3)


def test_lean_is_the_graph_without_inferred_shapes(floats: ModelProto, inputs: list[np.ndarray]) -> None:
    read = onnx.load_from_string(lean(floats))
    assert not read.graph.value_info and floats.graph.value_info
    assert np.array_equal(run(read, inputs[0]), run(floats, inputs[0]))


def test_weights_are_taken_out_and_made_up_again(floats: ModelProto, inputs: list[np.ndarray]) -> None:
    stripped = strip_weights(floats)
    assert len(lean(stripped)) < 0.7 * len(lean(floats))
    assert not any(tensor.raw_data for tensor in stripped.graph.initializer if np.prod(tensor.dims) > 16)
    filled = infer(fill_weights(stripped))
    assert shapes(filled) == shapes(floats)
    onnx.checker.check_model(filled, full_check=True)
    output = run(filled, inputs[0])
    assert output.shape == (1, 5) and np.isfinite(output).all() and np.ptp(output) > 0
    assert fill_weights(stripped) == fill_weights(stripped)
    assert fill_weights(stripped, seed=1) != fill_weights(stripped)
    small = {t.name: t for t in filled.graph.initializer if np.prod(t.dims) <= 16}
    assert small and all(t in floats.graph.initializer for t in small.values())


def test_filled_weights_keep_the_scale_of_activations() -> None:
    """The variance of He et al. (2015): 2 over the number of inputs."""
    model = ModelProto()
    tensor = numpy_helper.from_array(np.zeros((64, 32, 3, 3), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.doc_string = "stripped"
    model.graph.initializer.append(tensor)
    values = numpy_helper.to_array(fill_weights(model).graph.initializer[0])
    assert values.dtype == np.float32 and values.shape == (64, 32, 3, 3)
    assert np.isclose(values.var(), 2 / (32 * 9), rtol=0.05)


@pytest.mark.parametrize(
    "sizes",
    [
        [[2**20, 2**20]],
        [[2**62, 4]],  # more than 64 bits can count
        [[-1, 8]],
        [[-(2**40), -(2**40)]],
        [[0, 8]],
        [[1] * 100],
        [[64, 64, 3, 3]] * 40,  # too many together
    ],
)
def test_absurd_weights_are_not_made_up(sizes: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "MAX_FILLED", 2**20)
    model = ModelProto()
    for index, dims in enumerate(sizes):
        model.graph.initializer.add(name=str(index), data_type=TensorProto.FLOAT, dims=dims, doc_string="stripped")
    with pytest.raises(BadInput, match="at most 1048576 can be filled in") as refused:
        fill_weights(model)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_constants_are_initialisers(build: Build) -> None:
    """As exporters write the bounds of a Clip: all that looks for constants finds them."""
    nodes = [
        helper.make_node("Constant", [], ["low"], name="low", value=numpy_helper.from_array(np.float32(-0.5))),
        helper.make_node("Constant", [], ["high"], name="high", value_float=1.0),
        helper.make_node("Clip", ["x", "low", "high"], ["y"], name="clip"),
    ]
    tidied = tidy(build(nodes, {}, [1, 4, 8, 8], [1, 4, 8, 8]))
    assert np.array_equal(run(tidied), np.clip(X, -0.5, 1))
    assert [tensor.name for tensor in tidied.graph.initializer] == ["low"]  # one of another form stays what it is
