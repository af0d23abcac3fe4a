"""Classification of clouds as a Task, from data to the Samples of a fit."""

from pathlib import Path

import numpy as np
import pytest

from shoestring.core.task import Task
from shoestring.deploy.preprocess import preprocess
from shoestring.pipeline.drawing import samples
from shoestring.points.demo import CLASSES
from shoestring.points.task import PointClassification

SPEC = {"kind": "points", "points": 32, "centre": "mean", "scale": "sphere", "up": "y"}


def test_it_is_a_task(tmp_path: Path) -> None:
    task: Task = PointClassification(SPEC, outputs=2)
    for name in ("chair", "table"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.random.default_rng(0).random((9, 3)))
    ((points, target), (_, other)) = task.load(tmp_path)
    assert (points.shape, target, other) == ((9, 3), 0, 1)
    assert task.quality(np.eye(2)[[0, 0]], np.array([0, 1])).tolist() == [1, 0]
    assert task.metric == "top-1"


def test_samples_of_clouds() -> None:
    """Calibration, judgement and held inputs are what deployment makes; other numbers of points are to be had."""
    task = PointClassification(SPEC, outputs=12)
    dataset = task.match(task.demo()).take(range(0, 480, 8))
    made = samples(dataset, task, 8, seed=1, train=True, hold=True)
    assert made.held is not None
    assert made.training is not None
    assert (len(made.calibration), len(made.judgement)) == (8, 30)
    assert len(made.training) + len(made.held.judgement) == 30
    deployed = {preprocess(SPEC, points).tobytes() for points, _ in dataset}
    for part in (made.calibration, made.judgement, made.held.judgement):
        assert {x[0].tobytes() for x in part} <= deployed
    assert made.resized is not None
    assert made.resized((16, 3)).judgement[0].shape == (1, 16, 3)
    assert dataset.names == tuple(CLASSES)


@pytest.mark.parametrize("shape", [(32, 3)])
def test_tensors_as_they_are(shape: tuple[int, int]) -> None:
    task = PointClassification({"kind": "tensor", "shape": list(shape)}, outputs=2)
    points = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_array_equal(task.network_input(task.preprocess, points), points)
