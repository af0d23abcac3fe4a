"""What a fit is given: the split's images, preprocessed, decoded when asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import preprocess
from shoestring.image.data import load_images
from shoestring.image.dataset import Dataset
from shoestring.image.samples import Inputs, samples
from shoestring.image.task import ImageClassification

SPEC = {
    "kind": "image",
    "resize": 9,
    "interpolation": "bilinear",
    "crop": [8, 8],
    "mean": [1.0, 2.0, 3.0],
    "std": [4.0, 5.0, 6.0],
}


@pytest.fixture
def dataset(save: Callable[..., Path], tmp_path: Path) -> Dataset:
    for number in range(12):
        save(tmp_path / "photos" / f"class{number % 3}" / f"{number:02}.png", seed=number)
    return load_images(tmp_path / "photos")


def test_inputs_are_preprocessed_on_access(dataset: Dataset) -> None:
    inputs = Inputs(dataset, SPEC)
    assert len(inputs) == 12
    for index in (0, 5, 11):
        expected = preprocess(SPEC, dataset[index][0])
        assert inputs[index].shape == (1, 3, 8, 8) and inputs[index].dtype == np.float32
        assert np.array_equal(inputs[index][0], expected)
    part = inputs[2:5]
    assert len(part) == 3 and np.array_equal(part[0], inputs[2])
    with pytest.raises(IndexError):
        inputs[12]


def test_calibration_and_judgement_share_nothing(dataset: Dataset) -> None:
    task = ImageClassification(SPEC, outputs=3)
    made = samples(dataset, task, calibration=6, seed=1)
    ours = {x.tobytes() for x in made.calibration}
    theirs = {x.tobytes() for x in made.judgement}
    everything = {x.tobytes() for x in Inputs(dataset, SPEC)}
    assert len(made.calibration) == 6 and len(made.judgement) == 6
    assert not ours & theirs and ours | theirs == everything
    assert made.provenance == {"sha256": dataset.fingerprint, "calibration": 6, "judgement": 6, "seed": 1}


def test_labels_make_targets_and_scores(dataset: Dataset) -> None:
    made = samples(dataset, ImageClassification(SPEC, outputs=3), calibration=6)
    assert made.targets is not None and made.scores is not None
    assert made.metric == "top-1"
    outputs = np.eye(3)[made.targets]
    assert made.scores(outputs, made.targets).tolist() == [1.0] * 6
    assert made.scores(np.roll(outputs, 1, axis=1), made.targets).tolist() == [0.0] * 6


def test_without_labels_there_are_none(save: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", seed=number)
    made = samples(load_images(tmp_path), ImageClassification(SPEC), calibration=2)
    assert made.targets is None and made.scores is None


def test_too_few_images(dataset: Dataset) -> None:
    with pytest.raises(BadInput, match="cannot give 12 to calibrate and leave any to judge"):
        samples(dataset, ImageClassification(SPEC), calibration=12)
