"""The layers of exported graphs, against `graph.inventory` on the torch model they were exported from."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from shoestring.core.layer import OTHER, Layer
from shoestring.deploy.export import export
from shoestring.deploy.inventory import inventory
from shoestring.deploy.rewrite import strip_weights, tidy
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory as torch_inventory
from shoestring.models.point_mlp import PointMLP

Build = Callable[..., ModelProto]


def told(layers: tuple[Layer, ...]) -> list[tuple[object, ...]]:
    """What both can know of layers with weights. A bias of a product over a sequence is a node of its own in ONNX."""
    return [
        (la.name, la.kind, la.input, la.output, la.weight, la.stride, la.groups, la.macs) for la in layers if la.weight
    ]


def test_the_layers_are_those_of_the_torch_model(network: nn.Module, floats: ModelProto) -> None:
    ours = inventory(floats)
    theirs = tuple(
        replace(layer, input=(3, 16, 16)) if layer.name == "stem.1" else layer  # ONNX has the padding inside
        for layer in torch_inventory(network, (3, 16, 16))
    )
    assert told(ours) == told(theirs) and len(told(ours)) == 8
    assert {layer.name: layer.bias for layer in ours if layer.weight} == {
        la.name: la.bias for la in theirs if la.weight
    }
    assert sum(layer.macs for layer in ours) == sum(layer.macs for layer in theirs) > 0
    assert [layer.op for layer in ours if not layer.weight].count("Add") == 1
    assert not any("clip" in layer.name or "relu" in layer.name for layer in ours)  # they belong to their layers


def test_sums_are_known_by_their_weights(build: Build) -> None:
    """The same number over and over, and no bias; what was taken out of a graph is not known."""
    nodes = [
        helper.make_node("Conv", ["x", "sum.weight"], ["1"], group=4),
        helper.make_node("Conv", ["1", "one.weight"], ["2"], group=4),
        helper.make_node("Conv", ["2", "none.weight"], ["3"]),
        helper.make_node("Conv", ["3", "third.weight"], ["4"]),
        helper.make_node("Conv", ["4", "moved.weight", "bias"], ["y"]),
    ]
    constants = {
        "sum.weight": np.ones((4, 1, 3, 3), np.float32),
        "one.weight": np.full((4, 1, 1, 1), 0.5, np.float32),
        "none.weight": np.zeros((4, 4, 1, 1), np.float32),
        "third.weight": np.full((4, 4, 1, 1), 1, np.float32) + np.eye(4, dtype=np.float32)[..., None, None],
        "moved.weight": np.ones((4, 4, 1, 1), np.float32),
        "bias": np.ones(4, np.float32),
    }
    model = tidy(build(nodes, constants, [1, 4, 6, 6], [1, 4, 4, 4]))
    assert [layer.name for layer in inventory(model) if layer.fixed] == ["sum", "one"]
    assert [layer.name for layer in inventory(strip_weights(model)) if layer.fixed] == ["one"]  # too small to take


def test_activations_and_poolings_are_told_alike(network: nn.Module, floats: ModelProto) -> None:
    ours, theirs = inventory(floats), torch_inventory(network, (3, 16, 16))
    assert [la.activation for la in ours if la.weight] == ["clip", "clip", "", "relu", "sigmoid", "", "relu", ""]
    assert [la.activation for la in theirs if la.weight] == [
        "relu6",
        "relu6",
        "",
        "relu",
        "sigmoid",
        "silu",
        "relu",
        "",
    ]
    assert [la.window for la in ours if "Pool" in la.op] == [la.window for la in theirs if la.op == "Mean"] == [64, 64]


def test_the_window_of_a_pooling(build: Build) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], name="max", kernel_shape=[3, 2], strides=[1, 2]),
        helper.make_node("AveragePool", ["m"], ["y"], name="average", kernel_shape=[2, 2]),
    ]
    model = tidy(build(nodes, {}, [1, 4, 8, 8], [1, 4, 5, 3]))
    assert {layer.op: layer.window for layer in inventory(model)} == {"MaxPool": 6, "AveragePool": 4}


def test_a_quantised_graph_has_the_same_layers(floats: ModelProto, quantised: ModelProto) -> None:
    assert told(inventory(quantised)) == told(inventory(floats))


class Unusual(nn.Module):
    """A module called twice, a transposed convolution, linear layers on a sequence, attention, one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1)
        self.up = nn.ConvTranspose2d(4, 6, 2, 2, groups=2)
        self.inner = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, bias=False))
        self.last = nn.Conv1d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.conv(torch.relu(self.conv(x))))
        x = self.inner(x.flatten(2).transpose(1, 2))
        x = torch.softmax(x @ x.transpose(1, 2), -1) @ x
        return self.last(x.transpose(1, 2))


def test_unusual_layers_too() -> None:
    model = fold(capture(Unusual().eval(), (4, 8, 8)))
    ours, theirs = inventory(export(model, (4, 8, 8))), torch_inventory(model, (4, 8, 8))
    assert told(ours) == told(theirs)
    names = ["conv", "conv:2", "up", "inner.0", "inner.2", "last"]
    assert [layer.name for layer in ours if layer.weight] == names
    assert sum(layer.macs for layer in ours) == sum(layer.macs for layer in theirs)
    assert sum(layer.macs for layer in ours if layer.op == "MatMul" and layer.kind == OTHER) > 0


@pytest.mark.parametrize("transposed", [0, 1])
def test_weights_are_out_by_in_however_they_are_stored(build: Build, transposed: int) -> None:
    weight = np.zeros((5, 7) if transposed else (7, 5), np.float32)
    node = helper.make_node("Gemm", ["x", "fc.weight"], ["y"], transB=transposed)
    (layer,) = inventory(tidy(build([node], {"fc.weight": weight}, [1, 7], [1, 5])))
    assert (layer.name, layer.weight, layer.input, layer.output, layer.macs) == ("fc", (5, 7), (7,), (5,), 35)


def test_a_computed_weight_is_no_layer_to_compress(build: Build) -> None:
    nodes = [
        helper.make_node("Sigmoid", ["w"], ["v"], name="v"),
        helper.make_node("Conv", ["x", "v"], ["y"], name="conv"),
    ]
    model = tidy(build(nodes, {"w": np.ones((4, 4, 1, 1), np.float32)}, [1, 4, 8, 8], [1, 4, 8, 8]))
    assert [(layer.name, layer.kind) for layer in inventory(model)] == [("v", OTHER), ("conv", OTHER)]


def test_points_are_looked_at_by_those_who_sample_and_group() -> None:
    layers = {layer.name: layer for layer in inventory(export(PointMLP(3, 8, 4, 64).eval(), (64, 3)))}
    assert (layers["farthest"].window, layers["nearest"].window, layers["nearest_1"].window) == (64, 64, 32)
