"""Networks that are exported once for several widths: the graphs are the exporter's own."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from shoestring.compress.slim.network import plain
from shoestring.compress.slim.space import Shape, parse
from shoestring.compress.slim.views import Views, sides
from shoestring.graph.capture import capture
from shoestring.models.point_mlp import PointMLP
from shoestring.pipeline import siblings
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.siblings import Siblings

HALF, SHORT, FEW = Shape(0.5), Shape(0.5, depth=1), Shape(0.5, side=0.5)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The input of each network that the exporter was asked for."""
    seen: list[tuple[int, ...]] = []
    usual = siblings.export

    def noted(model: nn.Module, shape: tuple[int, ...]) -> ModelProto:
        seen.append(shape)
        return usual(model, shape)

    monkeypatch.setattr(siblings, "export", noted)
    return seen


def of(model: nn.Module, shape: tuple[int, ...]) -> Original:
    torch.manual_seed(0)
    return remade(Original("x", ModelProto(), (), shape), capture(model.eval(), shape))


def own(original: Original, views: Views, shape: Shape) -> tuple[Original, Any]:
    return replace(original, input=sides(views.shape, shape.side)), plain(views, shape, original.noise())


def written(graph: ModelProto) -> bytes:
    bare = ModelProto()
    bare.CopyFrom(graph)
    del bare.graph.value_info[:]  # they are hints
    return bare.SerializeToString(deterministic=True)


def test_clouds_of_one_depth_and_size_share_a_graph(exported: list) -> None:
    original = of(PointMLP(3, width=16, neighbours=4, points=64), (64, 3))
    assert original.model is not None
    views, known = Views(original.model, parse("w=0.5,1:d=1:r=0.5,1:n=1")), Siblings()
    for shape in (views.space.largest, HALF, SHORT, FEW):
        before, model = own(original, views, shape)
        found, expected = known.remade(before, model), remade(before, model)
        assert written(found.graph) == written(expected.graph)
        assert found.layers == expected.layers
        assert found.model is model
        onnx.checker.check_model(found.graph)
    assert exported == [(64, 3), (64, 3), (32, 3)]  # the half had what the largest had


def test_depthwise_layers_have_their_own_groups(original: Original, exported: list) -> None:
    assert original.model is not None
    views, known = Views(original.model, parse("w=0.5,1:d=0:r=1")), Siblings()
    for shape in (views.space.largest, HALF):
        before, model = own(original, views, shape)
        assert written(known.remade(before, model).graph) == written(remade(before, model).graph)
    assert len(exported) == 1


class Rows(nn.Module):
    """A linear layer on rows, whose weight the exporter turns over."""

    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(3, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu()).mean(1)


def test_what_the_exporter_changed_is_exported_again(exported: list) -> None:
    known = Siblings()
    for width in (8, 4):
        original = of(Rows(width), (5, 3))
        assert original.model is not None
        found = known.remade(original, original.model)
        assert written(found.graph) == written(original.graph)
    assert len(exported) == 2


@pytest.mark.parametrize("wrong", ["other", "broken"])
def test_what_computes_something_else_is_exported(wrong: str, exported: list, monkeypatch: pytest.MonkeyPatch) -> None:
    original, graph = of(nn.Sequential(nn.Conv2d(3, 8, 1)), (3, 4, 4)), ModelProto()
    assert original.model is not None
    graph.CopyFrom(original.graph)
    for tensor in graph.graph.initializer:
        if wrong == "other":
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
        else:
            tensor.CopyFrom(numpy_helper.from_array(np.ones((2, 2), np.float32), tensor.name))
    monkeypatch.setattr(siblings, "refilled", lambda *_: graph)
    known = Siblings()
    for _ in range(2):
        found = known.remade(original, original.model)
        x = original.noise()
        expected = original.model(torch.from_numpy(np.concatenate(x))).detach().numpy()
        np.testing.assert_allclose(outputs(found.graph, "onnxruntime", x), expected, rtol=1e-4, atol=1e-5)
    assert len(exported) == 2
