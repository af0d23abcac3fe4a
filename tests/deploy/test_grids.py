"""Weights of layers, read and put back: values to the bit, biases to half a step, and arithmetic that holds them."""

import numpy as np
import pytest
from onnx import ModelProto, helper

from shoestring.core.grid import Grid
from shoestring.core.precision import INT8_SAFE16
from shoestring.deploy import runtimes
from shoestring.deploy.grids import MAX_BIAS, put, stored
from shoestring.deploy.normal_form import violations
from shoestring.deploy.quantize import safe16_range
from shoestring.deploy.rewrite import initialisers
from shoestring.deploy.weights import weights

LAYERS = ["stem.1", "depthwise.0", "project.0", "reduce", "expand", "grouped", "mix", "head"]


def copy(model: ModelProto) -> ModelProto:
    found = ModelProto()
    found.CopyFrom(model)
    return found


def outputs(model: ModelProto, inputs) -> np.ndarray:
    session = runtimes.get("onnxruntime").open(model.SerializeToString(), literal=True)
    return np.concatenate([session(x)[0] for x in inputs])


def test_stored_is_what_the_file_holds(floats: ModelProto, quantised: ModelProto) -> None:
    ours, theirs = stored(quantised), stored(floats)
    assert list(ours) == list(theirs) == LAYERS
    before = weights(floats)
    for name in LAYERS:
        layer, original = ours[name], theirs[name]
        assert original.scales is None
        np.testing.assert_array_equal(original.weight, before[name])
        steps = layer.scales.reshape(-1, *[1] * (layer.weight.ndim - 1))
        assert np.abs(layer.weight * steps - original.weight).max() <= steps.max() / 2 * 1.001
        assert (layer.bias is None) == (original.bias is None)
        if layer.bias is not None:
            np.testing.assert_allclose(layer.bias, original.bias, atol=1e-3)
    assert theirs["grouped"].attributes["group"] == 2


def test_a_weight_that_two_layers_share_is_left_out(build) -> None:
    weight = np.ones((4, 4, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="one"),
        helper.make_node("Conv", ["a", "w"], ["b"], name="two"),
        helper.make_node("Conv", ["b", "v"], ["y"], name="three"),
    ]
    model = build(nodes, {"w": weight, "v": weight}, [1, 4, 2, 2], [1, 4, 2, 2])
    assert list(stored(model)) == ["three"]


@pytest.mark.parametrize("bits", [8, 5, 4, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_put_is_read_back(name: str, bits: int, quantised: ModelProto, inputs) -> None:
    """Values exactly, however far up the codes moved; the bias to half of its step; and the file is in normal form."""
    model, rng = copy(quantised), np.random.default_rng(0)
    shape = stored(model)[name].weight.shape
    most = min(2 ** (bits - 1) - 1, 63)  # two neighbours within 16 bits
    codes = rng.integers(-most, most + 1, shape).astype(np.int8)
    grid = Grid(codes, rng.uniform(0.001, 0.01, shape[0]).astype(np.float32), bits)
    bias = rng.normal(0, 0.1, shape[0])
    put(model, name, grid, bias)
    found = stored(model)[name]
    steps = found.scales.reshape(-1, *[1] * (len(shape) - 1))
    np.testing.assert_allclose(found.weight * steps, grid.values, rtol=1e-6)
    assert np.abs(found.bias - bias).max() < 1e-3
    assert violations(model) == []
    if not (len(shape) > 2 and shape[1] == 1):
        assert safe16_range(found.weight.astype(np.float32)).max() <= 128
    others = [layer for layer in LAYERS if layer != name]
    for layer in others:
        np.testing.assert_array_equal(stored(model)[layer].weight, stored(quantised)[layer].weight)
    assert np.isfinite(outputs(model, inputs)).all()


@pytest.mark.parametrize("most", [0, 1, 2])
def test_codes_move_up_no_further_than_asked(most: int, quantised: ModelProto) -> None:
    model, name = copy(quantised), "depthwise.0"
    shape = stored(model)[name].weight.shape
    codes = np.random.default_rng(0).integers(-4, 4, shape).astype(np.int8)
    grid = Grid(codes, np.full(shape[0], 0.01, np.float32), 3)
    put(model, name, grid, np.zeros(shape[0]), most)
    np.testing.assert_array_equal(stored(model)[name].weight, codes << most)
    np.testing.assert_array_equal(stored(model)[name].scales, grid.scales / 2**most)


def test_what_is_there_already_changes_nothing(quantised: ModelProto, inputs) -> None:
    model = copy(quantised)
    for name, layer in stored(model).items():
        bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        put(model, name, Grid(layer.weight, layer.scales, 8), bias)
    np.testing.assert_array_equal(outputs(model, inputs), outputs(quantised, inputs))


def test_a_layer_gets_a_bias(build, fit, inputs) -> None:
    """One that had none: its outputs move by the bias."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "v"], ["y"], name="two"),
    ]
    constants = {"w": weight, "v": np.ones((2, 4, 1, 1), np.float32)}
    model = build(nodes, constants, [1, 3, 16, 16], [1, 2, 16, 16])
    quantised = fit(model, dict.fromkeys(["one", "two"], INT8_SAFE16), inputs)
    layer, moved = stored(quantised)["two"], copy(quantised)
    assert layer.bias is None
    put(moved, "two", Grid(layer.weight, layer.scales, 8), np.array([1.0, -2.0]))
    difference = outputs(moved, inputs) - outputs(quantised, inputs)
    np.testing.assert_allclose(difference, np.broadcast_to([[[1.0]], [[-2.0]]], difference.shape), atol=0.05)
    assert violations(moved) == []


def test_a_bias_beyond_32_bits_makes_steps_wider(quantised: ModelProto) -> None:
    """A channel that is all but off: its steps grow until its bias fits."""
    model = copy(quantised)
    layer = stored(model)["mix"]
    scales = layer.scales.copy()
    scales[0] = 1e-12
    bias = np.zeros(len(scales))
    bias[0] = 5.0
    put(model, "mix", Grid(layer.weight, scales, 8), bias)
    found = stored(model)["mix"]
    assert found.bias[0] == pytest.approx(5.0, rel=1e-6)
    constants = initialisers(model)
    node = next(node for node in model.graph.node if node.name == "mix")
    maker = next(m for m in model.graph.node if node.input[2] in m.output)
    assert np.abs(constants[maker.input[0]]).max() <= MAX_BIAS
