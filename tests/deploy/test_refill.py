"""Graphs refilled with other weights: against graphs written with those weights, and what is refused."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.deploy.refill import refilled

RNG = np.random.default_rng(0)
GROUPS = {"thin": 6, "absent": 3}


def weights(channels: int) -> dict[str, np.ndarray]:
    shapes = {"wide.weight": (channels, 3, 1, 1), "wide.bias": (channels,), "thin.weight": (channels, 1, 3, 3)}
    return {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def graph(values: dict[str, np.ndarray], **others: np.ndarray) -> ModelProto:
    """A 1x1 convolution and a depthwise one behind it."""
    channels = len(values["wide.bias"])
    nodes = [
        helper.make_node("Conv", ["input", "wide.weight", "wide.bias"], ["y"], "wide", kernel_shape=[1, 1], group=1),
        helper.make_node("Conv", ["y", "thin.weight"], ["output"], "thin", group=channels, pads=[1, 1, 1, 1]),
    ]
    shaped = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "output"))
    stored = [numpy_helper.from_array(value, name) for name, value in {**values, **others}.items()]
    made = helper.make_graph(nodes, "g", [next(shaped)], [next(shaped)], stored)
    made.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 8, 8]))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)])


def test_as_if_it_had_been_written() -> None:
    eight, six, scalar = weights(8), weights(6), np.array(0.5, np.float32)
    given = graph(eight, half=scalar, whole=np.arange(3))
    before = given.SerializeToString(deterministic=True)
    found, expected = refilled(given, eight, six, GROUPS), graph(six, half=scalar, whole=np.arange(3))
    del expected.graph.value_info[:]
    assert found is not None
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert given.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("fault", ["another value", "a vector beside", "not in the graph", "another name"])
def test_what_may_not_be_the_same_is_refused(fault: str) -> None:
    before, after = weights(8), weights(6)
    given = graph(before, **({"made": np.ones(2, np.float32)} if fault == "a vector beside" else {}))
    if fault == "another value":
        before["wide.bias"] = before["wide.bias"] + 1
    if fault == "not in the graph":
        before["head.weight"] = after["head.weight"] = np.ones(2, np.float32)
    if fault == "another name":
        after["head.weight"] = after.pop("thin.weight")
    assert refilled(given, before, after, GROUPS) is None
