"""One vocabulary for what modules, functions and methods do."""

import operator

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from shoestring.geometry.operators import nearest, take
from shoestring.graph.nodes import ACTIVATION, COMBINATION, MOVE, PAD, POOL, SATURATION, called, does, operation, values


def last(module: nn.Module) -> tuple[fx.GraphModule, fx.Node]:
    """The node that writes the output."""
    gm = fx.symbolic_trace(module)
    return gm, next(iter(gm.graph.find_nodes(op="output"))).all_input_nodes[0]


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FUNCTIONS = [
    (lambda x: x + x.abs(), "Add", COMBINATION),
    (lambda x: x.add(1), "Add", COMBINATION),
    (lambda x: torch.add(x, x), "Add", COMBINATION),
    (lambda x: operator.iadd(x, x), "Add", COMBINATION),
    (lambda x: x.mul_(x), "Mul", COMBINATION),
    (lambda x: x @ x, "MatMul", COMBINATION),
    (lambda x: torch.bmm(x, x), "Bmm", COMBINATION),
    (lambda x: torch.cat([x, x]), "Cat", COMBINATION),
    (lambda x: x.mean((2, 3)), "Mean", POOL),
    (lambda x: F.adaptive_avg_pool2d(x, 1), "AdaptiveAvgPool", POOL),
    (lambda x: F.avg_pool1d(x, 2), "AvgPool", POOL),
    (lambda x: F.max_pool2d(x, 2), "MaxPool", MOVE),
    (lambda x: F.pad(x, (1, 1)), "Pad", PAD),
    (lambda x: F.relu(x), "Relu", SATURATION),
    (lambda x: x.relu_(), "Relu", SATURATION),
    (lambda x: F.relu6(x), "Relu6", SATURATION),
    (lambda x: F.hardswish(x), "Hardswish", ACTIVATION),
    (lambda x: torch.sigmoid(x), "Sigmoid", ACTIVATION),
    (lambda x: x.flatten(1), "Flatten", MOVE),
    (lambda x: x[:, 0], "Getitem", MOVE),
    (lambda x: x.transpose(1, 2), "Transpose", MOVE),
    (lambda x: x.chunk(2), "Chunk", MOVE),
]
MODULES = [
    (nn.Conv2d(3, 3, 1), "Conv", None),
    (weight_norm(nn.Conv1d(3, 3, 1)), "Conv", None),
    (nn.ReLU6(), "ReLU6", SATURATION),
    (nn.SiLU(), "SiLU", ACTIVATION),
    (nn.MaxPool2d(2), "MaxPool", MOVE),
    (nn.ZeroPad2d(1), "ZeroPad", PAD),
    (nn.AdaptiveAvgPool2d(1), "AdaptiveAvgPool", POOL),
    (nn.Dropout(), "Dropout", MOVE),
    (nn.BatchNorm2d(3), "BatchNorm", None),
    (nn.Softmax(-1), "Softmax", None),
]


@pytest.mark.parametrize(("function", "name", "what"), FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions_and_methods(function, name: str, what) -> None:
    gm, node = last(Calls(function))
    assert operation(node, called(gm, node)) == name
    assert called(gm, node) is None
    assert does(gm, node, what)


@pytest.mark.parametrize(("module", "name", "what"), MODULES, ids=range(len(MODULES)))
def test_modules(module: nn.Module, name: str, what) -> None:
    gm, node = last(nn.Sequential(module))
    assert called(gm, node) is gm.get_submodule("0")
    assert operation(node, called(gm, node)) == name
    kinds = [kind for kind in (ACTIVATION, COMBINATION, MOVE, POOL) if does(gm, node, kind)]
    assert does(gm, node, what) if what else kinds == []


def test_what_calls_nothing_does_nothing() -> None:
    gm = fx.symbolic_trace(Calls(lambda add: add))
    assert not any(does(gm, node, kind) for node in gm.graph.nodes for kind in (ACTIVATION, COMBINATION, MOVE, POOL))
    assert all(called(gm, node) is None for node in gm.graph.nodes)


class Groups(nn.Module):
    def forward(self, xyz: Tensor) -> Tensor:
        return take(xyz, nearest(xyz, xyz, 2)).amax(3, keepdim=True)


def test_operators_on_points() -> None:
    gm = fx.symbolic_trace(Groups())
    _, found, taken, largest, _ = gm.graph.nodes
    assert [operation(node, None) for node in (found, taken, largest)] == ["Nearest", "Take", "Amax"]
    assert [does(gm, node, MOVE) for node in (found, taken, largest)] == [False, True, True]
    assert values(taken) == taken.all_input_nodes[:1] and values(largest) == [taken]
