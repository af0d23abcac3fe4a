"""Channels taken out, and the check that would notice if more than they had changed."""

import numpy as np
import torch
from torch import nn

from shoestring.graph.capture import capture, reshaped
from shoestring.graph.channels import IN, OUT, groups
from shoestring.graph.dependencies import trace
from shoestring.graph.surgery import unchanged, without
from shoestring.models.point_mlp import PointMLP

SHAPE = (3, 4, 4)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


GONE = np.array([1, 5])
REMOVAL = {("0", OUT): GONE, ("1", OUT): GONE, ("3", IN): GONE}


def test_weights_that_stay_are_those_of_before() -> None:
    model = capture(net(), SHAPE)
    small = reshaped(without(model, REMOVAL, {}))
    kept = [0, 2, 3, 4, 6, 7]
    assert torch.equal(small.get_submodule("0").weight, model.get_submodule("0").weight[kept])
    assert torch.equal(small.get_submodule("1").running_var, model.get_submodule("1").running_var[kept])
    assert torch.equal(small.get_submodule("3").weight, model.get_submodule("3").weight[:, kept])
    shapes = {
        node.name: tuple(node.meta["tensor_meta"].shape) for node in small.graph.nodes if node.op == "call_module"
    }
    assert list(shapes.values()) == [(1, 6, 4, 4)] * 3 + [(1, 2, 4, 4)]
    assert model.get_submodule("0").weight.shape[0] == 8


def test_the_check_sees_what_went() -> None:
    model = capture(net(), SHAPE)
    assert unchanged(model, REMOVAL, {}, SHAPE)
    other = {**REMOVAL, ("3", IN): np.array([1, 6])}  # another channel's readers
    assert not unchanged(model, other, {}, SHAPE)
    assert not unchanged(model, {("0", OUT): GONE}, {}, SHAPE)  # shapes that do not fit


def test_what_learned_before_learns_after() -> None:
    model = capture(net(), SHAPE)
    model.get_submodule("0").weight.requires_grad_(False)
    small = without(model, REMOVAL, {})
    assert not small.get_submodule("0").weight.requires_grad
    assert small.get_submodule("0").bias.requires_grad


def test_channels_of_groups_of_points() -> None:
    """A stage's channels go from features, geometry and residual blocks together, through takes and the maximum."""
    torch.manual_seed(0)
    model = capture(PointMLP(3, width=8, neighbours=4, points=64).eval(), (64, 3))
    group = next(found for found in groups(trace(model, (64, 3))) if "stages.0.geometry.0" in found.outputs)
    removal = {place: channels[[1, 5]].ravel() for place, channels in group.cells[0].indices.items()}
    assert unchanged(model, removal, {}, (64, 3))
    small = reshaped(without(model, removal, {}))
    shapes = {node.name: tuple(node.meta["tensor_meta"].shape) for node in small.graph.nodes if node.op != "output"}
    assert shapes["take_2"] == (1, 32, 4, 14) and shapes["amax"] == (1, 14, 32, 1)
    assert not unchanged(model, {**removal, ("stages.1.feature.0", IN): np.array([1, 6])}, {}, (64, 3))
