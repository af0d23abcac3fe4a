"""The marker against NumPy and against what it is exported as, executed by onnx's reference and by ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor, fx, nn

from shoestring.deploy import runtimes
from shoestring.deploy.export import export
from shoestring.graph.marker import MARKER

GRIDS = {
    "8 bits": (0.1, 0, 0, 255),
    "8 bits, offset": (0.013, 131, 0, 255),
    "4 bits": (0.3, 0, 0, 15),
    "4 bits, offset": (0.3, 5, 0, 15),
    "2 bits, above zero": (0.5, 0, 3, 6),
    "3 bits, below zero": (0.5, 255, 0, 7),
    "a power of two": (0.25, 8, 0, 15),
}


def values(scale: float, zero_point: int, low: int, high: int) -> np.ndarray:
    """[1, 1024] float32: on the grid and beyond it, half-way between codes, next to that, and any."""
    codes = np.arange(low - 20, high + 21)[:200] - zero_point
    half = np.float32(scale) * (codes + np.float32(0.5)).astype(np.float32)
    rows = [np.float32(scale) * codes.astype(np.float32), half, np.nextafter(half, np.float32(0)), -half, half * 1e5]
    noise = np.random.default_rng(0).normal(0, scale * 200, 1024).astype(np.float32)
    return np.concatenate([*rows, noise]).astype(np.float32)[None, :1024]


def expected(x: np.ndarray, scale: float, zero_point: int, low: int, high: int) -> np.ndarray:
    step = np.float32(scale)
    codes = np.clip(np.rint(x / step).astype(np.float64) + zero_point, low, high)
    return (codes - zero_point).astype(np.float32) * step


class Marked(nn.Module):
    """[B, grids, n]: each row through its own grid."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([MARKER(x[:, [i]], *grid) for i, grid in enumerate(GRIDS.values())], 1)


@pytest.fixture(scope="module")
def graph() -> ModelProto:
    return export(Marked(), (len(GRIDS), 1024))


@pytest.mark.parametrize("name", GRIDS)
def test_the_marker_is_what_it_says(name: str) -> None:
    x = values(*GRIDS[name])
    assert np.array_equal(MARKER(torch.from_numpy(x), *GRIDS[name]).numpy(), expected(x, *GRIDS[name]))
    wide = MARKER(torch.from_numpy(x).double(), *GRIDS[name])
    assert wide.dtype == torch.float64


def test_the_file_computes_the_same_bit_for_bit(graph: ModelProto) -> None:
    """Half-way values included."""
    x = np.concatenate([values(*grid) for grid in GRIDS.values()])[None]
    y = np.stack([expected(row, *grid) for row, grid in zip(x[0], GRIDS.values(), strict=True)])[None]
    assert np.array_equal(Marked()(torch.from_numpy(x)).numpy(), y)
    assert np.array_equal(ReferenceEvaluator(graph).run(None, {"input": x})[0], y)
    for literal in (False, True):
        session = runtimes.get("onnxruntime").open(graph.SerializeToString(), literal=literal)
        assert np.array_equal(session(x)[0], y)


def test_codes_are_clipped_only_where_they_are_fewer_than_a_byte_s(graph: ModelProto) -> None:
    made = {name: node for node in graph.graph.node for name in node.output}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    found = []
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear":
            before, ends = made[node.input[0]], (0, 255)
            if before.op_type == "Clip":
                assert {constants[name].dtype for name in before.input[1:]} == {np.dtype(np.uint8)}
                ends = tuple(constants[name].item() for name in before.input[1:])
                before = made[before.input[0]]
                assert ends != (0, 255)
            assert before.op_type == "QuantizeLinear" and before.input[1:] == node.input[1:]
            assert constants[node.input[2]].dtype == np.uint8
            found.append((constants[node.input[1]].item(), constants[node.input[2]].item(), *ends))
    assert found == [(float(np.float32(scale)), *rest) for scale, *rest in GRIDS.values()]


def test_the_marker_in_a_graph() -> None:
    """It is a node that fx can call, and torch knows its result's shape without running it."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(MARKER, (x, 0.5, 1, 0, 3)))
    module = fx.GraphModule(nn.Module(), graph)
    assert module(torch.tensor([-9.0, 0.2, 0.9, 9.0])).tolist() == [-0.5, 0.0, 1.0, 1.0]
    with torch.device("meta"):
        assert MARKER(torch.empty(2, 3), 0.5, 1, 0, 3).shape == (2, 3)
    torch.library.opcheck(MARKER, (torch.randn(2, 3), 0.5, 1, 0, 3))
