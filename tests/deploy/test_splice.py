"""Parts in the place of nodes: what is read and written stays, and names of two graphs do not meet."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, helper

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.rewrite import infer, initialisers, tidy
from shoestring.deploy.splice import splice

Build = Callable[..., ModelProto]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 4, 6, 6), dtype=np.float32)


def conv(reads: str, weight: str, writes: str, **how: object) -> object:
    return helper.make_node("Conv", [reads, weight, *how.pop("bias", [])], [writes], **how)  # type: ignore[misc]


@pytest.fixture
def three(build: Build) -> ModelProto:
    """1x1 convolutions a, b and c, all with one bias; b is read twice, and something is called `b_pool` already."""
    nodes = [
        conv("x", "a.weight", "1", bias=["b.bias"]),
        conv("1", "b.weight", "2", bias=["b.bias"]),
        helper.make_node("Relu", ["2"], ["3"]),
        helper.make_node("Add", ["2", "3"], ["4"], name="b_pool"),
        conv("4", "c.weight", "y", bias=["b.bias"]),
    ]
    shape = {f"{name}.weight": RNG.standard_normal((4, 4, 1, 1), dtype=np.float32) for name in "abc"}
    bias = {"b.bias": RNG.standard_normal(4, dtype=np.float32)}
    return tidy(build(nodes, shape | bias, X.shape, X.shape))


@pytest.fixture
def part(build: Build) -> ModelProto:
    """Twice what it reads, a sum over windows of one pixel, and a layer with a bias."""
    ones, weight = np.ones((4, 1, 1, 1), np.float32), 3 * np.eye(4, dtype=np.float32)[..., None, None]
    constants = {"layer_pool.weight": ones, "layer.weight": weight, "layer.bias": np.ones(4, np.float32)}
    constants["val_1"] = np.float32(2)
    nodes = [
        helper.make_node("Mul", ["x", "val_1"], ["scaled"], name="scaled"),
        conv("scaled", "layer_pool.weight", "1", group=4),
        conv("1", "layer.weight", "y", bias=["layer.bias"]),
    ]
    made = tidy(build(nodes, constants, X.shape, X.shape))
    made.graph.input[0].name, made.graph.output[0].name = "input", "output"
    for node in made.graph.node:
        node.input[:] = ["input" if name == "x" else name for name in node.input]
        node.output[:] = ["output" if name == "y" else name for name in node.output]
    return made


def run(model: ModelProto) -> np.ndarray:
    return runtimes.get("onnxruntime").open(model.SerializeToString())(X)[0]


def spliced(model: ModelProto, node: str, part: ModelProto) -> ModelProto:
    splice(model, node, part)
    return infer(model)


@pytest.mark.parametrize("node", ["a", "b", "c"])
def test_it_computes_what_both_do(three: ModelProto, part: ModelProto, node: str) -> None:
    """At the input, between two that read it, at the output; the bias of the others stays theirs."""
    c = initialisers(three)
    values = {name: (c[f"{name}.weight"][..., 0, 0], c["b.bias"]) for name in "abc"}
    values[node] = 6 * np.eye(4), np.ones(4)
    x = X[0].reshape(4, -1).astype(np.float64)
    for name in "abc":
        weight, bias = values[name]
        x = weight @ x + bias[:, None]
        x = x + np.maximum(x, 0) if name == "b" else x
    ends = [value.name for value in (*three.graph.input, *three.graph.output)]
    made = spliced(three, node, part)
    assert np.allclose(run(made), x.reshape(X.shape), rtol=1e-4, atol=1e-4)
    assert [value.name for value in (*made.graph.input, *made.graph.output)] == ends


def test_what_belongs_to_the_layer_is_called_after_it(three: ModelProto, part: ModelProto) -> None:
    made = spliced(three, "a", part)
    assert [node.name for node in made.graph.node] == ["a_scaled", "a_pool", "a", "b", "b/relu", "b_pool", "c"]
    assert {"a_pool.weight", "a.weight", "a.bias", "a_val_1"} < set(initialisers(made))
    for node in made.graph.node[:-1]:
        assert list(node.output) == [node.name]
    assert tidy(made) == made


def test_names_that_are_taken(three: ModelProto, part: ModelProto) -> None:
    made = spliced(three, "b", part)
    names = [node.name for node in made.graph.node]
    assert names == ["a", "b_scaled", "b_pool:2", "b", "b/relu", "b_pool", "c"]
    assert {"b.bias", "b.bias:2"} < set(initialisers(made))


def test_it_can_be_done_again(three: ModelProto, part: ModelProto) -> None:
    for node in "abc":
        splice(three, node, part)
    names = [node.name for node in infer(three).graph.node]
    assert len(set(names)) == len(names) == 11
    assert not {"val_1", "layer.weight"} & set(initialisers(three))


def test_no_such_node(three: ModelProto, part: ModelProto) -> None:
    with pytest.raises(BadInput, match="splice: the graph has no node 'd'"):
        splice(three, "d", part)
