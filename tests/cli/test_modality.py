"""Pictures or point clouds: by the preprocessing of the network, or the shape of its input."""

from typing import Any

import pytest
from onnx import TensorProto, helper

from shoestring.cli.modality import task_of
from shoestring.image.task import ImageClassification
from shoestring.pipeline.original import Original
from shoestring.points.task import PointClassification

POINTS = {"kind": "points", "points": 8, "centre": None, "scale": None, "up": None}


def network(shape: tuple[int, ...], preprocess: dict[str, Any] | None = None) -> Original:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    return Original("n", helper.make_model(helper.make_graph([], "g", [], [y])), (), shape, preprocess=preprocess)


@pytest.mark.parametrize(
    ("shape", "spec", "kind"),
    [
        ((64, 3), None, PointClassification),
        ((8, 3), POINTS, PointClassification),
        ((3, 8, 8), None, ImageClassification),
        ((64, 4), None, ImageClassification),
        ((3,), None, ImageClassification),
        ((64, 3), {"kind": "tensor", "shape": [64, 3]}, ImageClassification),
    ],
)
def test_by_spec_or_shape(shape: tuple[int, ...], spec: dict[str, Any] | None, kind: type) -> None:
    task = task_of(network(shape, spec))
    assert type(task) is kind
    if spec is not None:
        assert task.preprocess == spec
