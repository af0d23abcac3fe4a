"""The functions of a file, on each stock runtime, against the oracle; what a stranger may call them."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import FunctionProto, ModelProto, TensorProto, helper

from shoestring.deploy import geometry, runtimes
from shoestring.deploy.check import check_graph
from shoestring.deploy.rewrite import infer, shapes
from shoestring.geometry import reference

STOCK = runtimes.installed(runtimes.STOCK)
Inputs = dict[str, tuple[list[int], int]]


def call(name: str, inputs: Inputs, kind: int = TensorProto.INT64, **given: Any) -> ModelProto:
    node = helper.make_node(name, list(inputs), ["found"], name, domain=geometry.DOMAIN, **given)
    values = [helper.make_tensor_value_info(key, of, shape) for key, (shape, of) in inputs.items()]
    graph = helper.make_graph([node], "call", values, [helper.make_tensor_value_info("found", kind, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    geometry.define(model)
    return infer(model)


def run(model: ModelProto, runtime: str, *inputs: np.ndarray) -> np.ndarray:
    data = model.SerializeToString()
    check_graph(data, "call")
    return runtimes.get(runtime).open(data)(*inputs)[0]


def clouds(batch: int, points: int) -> dict[str, np.ndarray]:
    """Some at random; on a lattice, where many distances are equal and many points the same; far away and small."""
    rng = np.random.default_rng(3)
    free = rng.standard_normal((batch, points, 3)).astype(np.float32)
    return {"free": free, "lattice": rng.integers(0, 4, free.shape).astype(np.float32), "far": free * 1e-3 + 7}


@pytest.mark.parametrize("runtime", STOCK)
@pytest.mark.parametrize("batch", [1, 3])
def test_farthest(runtime: str, batch: int) -> None:
    model = call(geometry.FARTHEST, {"xyz": ([batch, 90, 3], TensorProto.FLOAT)}, count=30)
    assert shapes(model)["found"] == (batch, 30)
    for cloud in clouds(batch, 90).values():
        expected = reference.farthest(torch.from_numpy(cloud), 30).numpy()
        assert np.array_equal(run(model, runtime, cloud), expected)


@pytest.mark.parametrize("runtime", STOCK)
@pytest.mark.parametrize("batch", [1, 3])
def test_nearest_and_within(runtime: str, batch: int) -> None:
    inputs = {"centres": ([batch, 40, 3], TensorProto.FLOAT), "xyz": ([batch, 90, 3], TensorProto.FLOAT)}
    nearest, within = call(geometry.NEAREST, inputs, count=9), call(geometry.WITHIN, inputs, count=9, radius=0.7)
    assert shapes(nearest)["found"] == shapes(within)["found"] == (batch, 40, 9)
    for cloud in clouds(batch, 90).values():
        centres = np.ascontiguousarray(cloud[:, ::2][:, :40])
        both = torch.from_numpy(centres), torch.from_numpy(cloud)
        assert np.array_equal(run(nearest, runtime, centres, cloud), reference.nearest(*both, 9).numpy())
        assert np.array_equal(run(within, runtime, centres, cloud), reference.within(*both, 0.7, 9).numpy())


@pytest.mark.parametrize("runtime", STOCK)
@pytest.mark.parametrize("groups", [(40,), (12, 5)])
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_take(runtime: str, groups: tuple[int, ...], kind: type[np.generic]) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 255, (2, 90, 8)).astype(kind)
    index = rng.integers(0, 90, (2, *groups))
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs = {"x": ([2, 90, 8], code), "index": ([2, *groups], TensorProto.INT64)}
    model = call(geometry.TAKE, inputs, code)
    assert shapes(model)["found"] == (2, *groups, 8)
    expected = reference.take(torch.from_numpy(x), torch.from_numpy(index)).numpy()
    assert np.array_equal(run(model, runtime, x, index), expected)


def test_the_definitions_are_always_the_same_and_valid() -> None:
    for name, function in geometry.functions().items():
        again = FunctionProto()
        again.ParseFromString(function.SerializeToString())
        onnx.checker.check_function(function)
        assert geometry.is_ours(again) and function.name == name
        again.node[0].op_type = "Neg"
        assert not geometry.is_ours(again)


def test_only_what_is_called_is_defined() -> None:
    model = call(geometry.FARTHEST, {"xyz": ([1, 9, 3], TensorProto.FLOAT)}, count=3)
    assert [function.name for function in model.functions] == [geometry.FARTHEST]
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 21), (geometry.DOMAIN, 1)]
    plain = geometry.inlined(model)
    assert not plain.functions and {node.domain for node in plain.graph.node} == {""}
    model.graph.node[0].CopyFrom(helper.make_node("Identity", ["xyz"], ["found"]))
    geometry.define(model)
    assert not model.functions and [item.domain for item in model.opset_import] == [""]
