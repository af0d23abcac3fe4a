"""Pictures or point clouds: by the preprocessing of the network, or the shape of its input."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from shoestring.cli.modality import task_of, with_data
from shoestring.core.errors import BadInput
from shoestring.image.task import ImageClassification
from shoestring.models.point_mlp import PointMLP
from shoestring.models.zoo import ZOO
from shoestring.pipeline.drawing import labels
from shoestring.pipeline.original import Original, resolve
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


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    """Six clouds of three classes."""
    points = np.random.default_rng(0).normal(size=(6, 40, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", points=points, label=np.arange(6) % 3, classes=np.array(["a", "b", "c"]))
    return tmp_path / "a.npz"


def test_an_untrained_network_has_the_classes_of_the_data(
    clouds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(PointMLP, width=8, neighbours=4, points=64)
    monkeypatch.setitem(ZOO, "point_mlp", replace(ZOO["point_mlp"], factory=small, input=(64, 3)))
    original, task, dataset = with_data(resolve("point_mlp"), clouds, False)
    assert (original.outputs, task.outputs, original.trained) == (3, 3, False)
    assert labels(task, dataset) == ("a", "b", "c")
    assert dataset.targets == (0, 1, 2, 0, 1, 2)
    points = np.zeros((2, 40, 3), np.float32)
    np.savez(tmp_path / "b.npz", points=points, label=np.array([2, 7]))  # output indices: there may be more
    assert with_data(original, tmp_path / "b.npz", False)[0].outputs == 8
    np.savez(tmp_path / "c.npz", points=points)
    assert with_data(original, tmp_path / "c.npz", False)[0] is original


def test_any_other_network_keeps_its_classes(clouds: Path) -> None:
    ours = replace(network((64, 3)), name="net")
    with pytest.raises(BadInput, match="3 classes do not fit the network's 2 outputs"):
        with_data(ours, clouds, False)
    with pytest.raises(BadInput, match="3 classes do not fit the network's 2 outputs"):
        with_data(replace(ours, name="point_mlp"), clouds, False)  # it is trained
