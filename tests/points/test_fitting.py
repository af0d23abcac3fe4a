"""What a network for clouds is told of its inputs."""

import pytest
from onnx import TensorProto, helper

from shoestring.pipeline.original import Original
from shoestring.points.fitting import point_task, spec_of


def network(shape: tuple[int, ...], output: list[int], preprocess=None) -> Original:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    graph = helper.make_graph([], "g", [], [y])
    return Original("n", helper.make_model(graph), (), shape, preprocess=preprocess)


@pytest.mark.parametrize(
    ("shape", "own", "expected"),
    [
        ((64, 3), None, {"kind": "points", "points": 64, "centre": "mean", "scale": "sphere", "up": "y"}),
        ((64, 4), None, {"kind": "tensor", "shape": [64, 4]}),
        ((64, 3), {"kind": "tensor", "shape": [64, 3]}, {"kind": "tensor", "shape": [64, 3]}),
    ],
)
def test_spec(shape: tuple[int, ...], own: dict | None, expected: dict) -> None:
    assert spec_of(network(shape, [1, 5], own)) == expected


def test_task() -> None:
    task = point_task(network((64, 3), [1, 5]))
    assert (task.outputs, task.metric) == (5, "top-1")
    assert point_task(network((64, 3), [1, 64, 5])).outputs == 0
