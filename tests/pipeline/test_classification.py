"""What is shared by all that classify. Names and indices of classes: tests/image/test_task.py."""

from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.core.task import Task
from shoestring.pipeline.classification import Classification
from shoestring.pipeline.dataset import Dataset, Item


class Nothing(Classification):
    """Two inputs of the classes b and a."""

    def read(self, path):
        return Dataset((Item(None, 0, "0"), Item(None, 1, "1")), ("b", "a"))  # type: ignore[arg-type]

    def demo(self):
        return self.read("")

    def network_input(self, spec, raw):
        return np.zeros(spec["shape"], np.float32)

    def training(self, dataset, seed):
        raise NotImplementedError


def test_what_is_loaded_has_output_indices(tmp_path: Path) -> None:
    task = Nothing({"kind": "tensor", "shape": [1]}, ("A", "c", "B"))
    as_task: Task = task
    dataset = as_task.load(tmp_path)
    assert isinstance(dataset, Dataset)
    assert (dataset.targets, dataset.names, dataset.indexed) == ((2, 0), ("A", "c", "B"), True)
    with pytest.raises(BadInput, match="class 'b' is no label"):
        Nothing({}, ("A", "c")).load(tmp_path)


def test_quality() -> None:
    task = Nothing({})
    outputs = np.array([[0.1, 0.9], [0.8, 0.2], [np.nan, 1]])
    assert task.quality(outputs, np.array([1, 1, 1])).tolist() == [1, 0, 0]
    with pytest.raises(BadInput, match="target 2 is not one of 2 outputs"):
        task.quality(outputs, np.array([0, 1, 2]))


def test_a_modality_says_how() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Classification({})  # type: ignore[abstract]
