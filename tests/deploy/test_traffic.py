"""Bytes that nodes move, counted by hand."""

import numpy as np
from onnx import ModelProto, helper

from shoestring.deploy.rewrite import infer
from shoestring.deploy.traffic import traffic


def test_floats(classifier: ModelProto) -> None:
    """The ReLU is applied by the convolution, so it writes as much; what only renames moves nothing."""
    moved = traffic(infer(classifier))
    picture, features = 4 * 3 * 64, 4 * 4 * 64
    assert moved["stem"] == picture + 4 * (4 * 3 * 9 + 4) + features
    assert moved["pool"] == features + 4 * 4
    assert moved["flatten"] == 0
    assert moved["head"] == 4 * (4 + 5 * 4 + 5 + 5)


def test_a_layer_between_quantisers_moves_codes(build) -> None:
    constants = {
        "scale": np.float32(0.1),
        "zero": np.uint8(0),
        "weight": np.ones((6, 2, 3, 3), np.int8),
        "scales": np.ones(6, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"], name="in"),
        helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["a"], name="read"),
        helper.make_node("DequantizeLinear", ["weight", "scales"], ["w"], name="weights", axis=0),
        helper.make_node("Conv", ["a", "w"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["r8"], name="codes"),
        helper.make_node("DequantizeLinear", ["r8", "scale", "zero"], ["y"], name="out"),
    ]
    moved = traffic(infer(build(nodes, constants, [1, 2, 10, 10], [1, 6, 8, 8])))
    assert moved["conv"] == 2 * 100 + 6 * 2 * 9 + 6 * 64
    assert moved["in"] == 5 * 2 * 100 + 5  # floats, codes, scale and zero
    assert moved["out"] == 5 * 6 * 64 + 5


def test_an_integer_layer_that_writes_floats(build) -> None:
    constants = {
        "scale": np.float32(0.1),
        "zero": np.uint8(0),
        "weight": np.ones((6, 2, 1, 1), np.int8),
        "scales": np.ones(6, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"], name="in"),
        helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["a"], name="read"),
        helper.make_node("DequantizeLinear", ["weight", "scales"], ["w"], name="weights", axis=0),
        helper.make_node("Conv", ["a", "w"], ["y"], name="conv"),
    ]
    moved = traffic(infer(build(nodes, constants, [1, 2, 10, 10], [1, 6, 10, 10])))
    assert moved["conv"] == 2 * 100 + 6 * 2 + 4 * 6 * 100


def test_both_inputs_of_a_sum_are_read(build) -> None:
    nodes = [helper.make_node("Add", ["x", "other"], ["y"], name="add")]
    moved = traffic(infer(build(nodes, {"other": np.ones((1, 8), np.float32)}, [1, 8], [1, 8])))
    assert moved == {"add": 3 * 8 * 4}


def test_places_of_points_are_eight_bytes_each(on_points8: ModelProto) -> None:
    """And what is taken moves with its codes behind a quantiser alone, which runtimes execute as it is written."""
    moved = traffic(on_points8)
    assert moved["farthest"] == 64 * 3 * 4 + 32 * 8
    assert moved["nearest"] == (32 + 64) * 3 * 4 + 32 * 4 * 8
    assert moved["take_1"] == (64 * 3 + 32 * 4 * 3) * 4 + 32 * 4 * 8
    assert moved["take_2"] == 64 * 16 + 32 * 4 * 16 + 32 * 4 * 8
