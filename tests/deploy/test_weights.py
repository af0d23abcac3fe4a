"""The weights of a graph by layer: outputs first, in floats or in codes, and put back with nothing else touched."""

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from torch import nn

from shoestring.deploy.rewrite import initialisers, tidy
from shoestring.deploy.weights import weights, with_weights


def test_of_a_torch_model(network: nn.Module, floats: ModelProto) -> None:
    found = weights(floats)
    modules = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(found) == set(modules)
    for name, module in modules.items():
        np.testing.assert_array_equal(found[name], module.weight.detach().numpy())


def test_codes_of_quantised_layers(floats: ModelProto, quantised: ModelProto) -> None:
    """They are where the values are, in steps of a channel."""
    before, after = weights(floats), weights(quantised)
    assert list(before) == list(after)
    for name, codes in after.items():
        assert codes.dtype == np.int8
        steps = np.abs(before[name]).reshape(len(codes), -1).max(1) / np.abs(codes).reshape(len(codes), -1).max(1)
        wanted = before[name] / steps.reshape(-1, *[1] * (codes.ndim - 1))
        assert np.abs(codes - wanted).max() < 2


@pytest.mark.parametrize(("op", "given", "axis"), [("MatMul", {}, 1), ("Gemm", {}, 1), ("Gemm", {"transB": 1}, 0)])
def test_linear_layers_have_their_outputs_first(build, op: str, given: dict[str, int], axis: int) -> None:
    stored = np.arange(12, dtype=np.float32).reshape((4, 3) if axis == 0 else (3, 4))
    model = tidy(build([helper.make_node(op, ["x", "w"], ["y"], name="fc", **given)], {"w": stored}, [1, 3], [1, 4]))
    wanted = stored if axis == 0 else stored.T
    np.testing.assert_array_equal(weights(model)["fc"], wanted)
    changed = with_weights(model, {"fc": wanted * 2})
    np.testing.assert_array_equal(initialisers(changed)["w"], stored * 2)


def test_a_bias_of_its_own(floats: ModelProto) -> None:
    """Where two layers share a bias, or there was none, one gets its own."""
    shared = ModelProto()
    shared.CopyFrom(floats)
    nodes = {node.name: node for node in shared.graph.node}
    nodes["expand"].input[2] = nodes["stem.1"].input[2]  # eight outputs each
    changed = with_weights(shared, {}, {"expand": np.arange(8.0)})
    read = {node.name: node.input[2] for node in changed.graph.node if len(node.input) > 2}
    constants = initialisers(changed)
    np.testing.assert_array_equal(constants[read["expand"]], np.arange(8, dtype=np.float32))
    np.testing.assert_array_equal(constants[read["stem.1"]], initialisers(floats)[nodes["stem.1"].input[2]])


def test_only_what_is_named_changes(floats: ModelProto) -> None:
    before = floats.SerializeToString(deterministic=True)
    found = weights(floats)
    changed = with_weights(floats, {"grouped": np.zeros_like(found["grouped"])})
    assert floats.SerializeToString(deterministic=True) == before
    after = weights(changed)
    assert not after["grouped"].any()
    for tensor, original in zip(changed.graph.initializer, floats.graph.initializer, strict=True):
        same = np.array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(original))
        assert same is (tensor.name != "grouped.weight")
    assert changed.graph.node == floats.graph.node


def test_a_weight_that_is_read_twice_is_the_firsts(build) -> None:
    nodes = [helper.make_node("Conv", [x, "c.weight"], [y], name=y) for x, y in (("x", "a"), ("a", "y"))]
    model = tidy(build(nodes, {"c.weight": np.ones((4, 4, 1, 1), np.float32)}, [1, 4, 2, 2], [1, 4, 2, 2]))
    assert list(weights(model)) == ["c"]


def test_products_of_activations_and_vectors_are_no_weights(build) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"], name="a"),
        helper.make_node("MatMul", ["a", "v"], ["y"], name="y"),
    ]
    assert weights(build(nodes, {"v": np.ones(4, np.float32)}, [4, 4], [4])) == {}
