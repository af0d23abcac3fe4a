"""From images to the inputs of a fit: who calibrates, who judges, and what they look like."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.image.data import load_images
from shoestring.image.samples import Inputs, samples
from shoestring.image.task import ImageClassification

SPEC = {
    "kind": "image",
    "resize": 8,
    "interpolation": "bilinear",
    "crop": [8, 8],
    "mean": [100.0] * 3,
    "std": [50.0] * 3,
}


@pytest.fixture
def folder(tmp_path: Path, save: Callable[..., Path]) -> Path:
    """Twelve pictures of two classes, 12 x 8 each."""
    for index in range(12):
        save(tmp_path / "data" / "ab"[index % 2] / f"{index}.png", seed=index)
    return tmp_path / "data"


def by_hand(path: Path) -> np.ndarray:
    """What the spec says, without our code: the centre of a picture whose short side needs no resizing."""
    pixels = np.asarray(Image.open(path), np.float32)[:, 2:10]
    return ((pixels - 100) / 50).transpose(2, 0, 1)[None]


def test_inputs_are_made_when_they_are_asked_for(folder: Path) -> None:
    dataset = load_images(folder)
    inputs = Inputs(dataset, SPEC)
    assert len(inputs) == 12
    paths = sorted(folder.rglob("*.png"), key=str)
    for x, item in zip(inputs, dataset.items, strict=True):
        assert x.dtype == np.float32
        assert x.shape == (1, 3, 8, 8)
        np.testing.assert_allclose(x, by_hand(item.source.path), atol=1e-6)
    assert {item.source.path for item in dataset.items} == set(paths)
    np.testing.assert_array_equal(inputs[3:5][1], inputs[4])
    assert len(inputs[9:]) == 3


def test_no_picture_both_calibrates_and_judges(folder: Path) -> None:
    task = ImageClassification(SPEC, outputs=2)
    dataset = task.load(folder)
    made = samples(dataset, task, calibration=4, seed=3)
    calibration, judgement = ([x.tobytes() for x in part] for part in (made.calibration, made.judgement))
    assert (len(calibration), len(judgement)) == (4, 8)
    assert set(calibration) | set(judgement) == {x.tobytes() for x in Inputs(dataset, SPEC)}
    assert made.metric == "top-1"
    assert made.provenance == {"sha256": dataset.fingerprint, "calibration": 4, "judgement": 8, "seed": 3}
    other = samples(dataset, task, calibration=4, seed=4)
    assert [x.tobytes() for x in other.calibration] != calibration
    assert [x.tobytes() for x in samples(dataset, task, calibration=4, seed=3).calibration] == calibration


def test_targets_belong_to_the_judged(folder: Path) -> None:
    """Class `a` holds the pictures with an even number: the target is told by the pixels."""
    task = ImageClassification(SPEC, outputs=2)
    made = samples(task.load(folder), task, calibration=4)
    classes = {by_hand(path).tobytes(): "ab".index(path.parent.name) for path in folder.rglob("*.png")}
    assert made.targets.tolist() == [classes[x.tobytes()] for x in made.judgement]
    assert made.targets.dtype == np.int64
    scores = made.scores(np.eye(2)[made.targets], made.targets)
    assert scores.tolist() == [1.0] * 8


def test_without_labels(tmp_path: Path, save: Callable[..., Path]) -> None:
    for index in range(6):
        save(tmp_path / "data" / f"{index}.png", seed=index)
    task = ImageClassification(SPEC)
    made = samples(task.load(tmp_path / "data"), task, calibration=2)
    assert (made.targets, made.scores) == (None, None)
    assert len(made.judgement) == 4


@pytest.mark.parametrize(
    ("calibration", "reason"), [(0, "at least 1"), (12, "cannot give 12"), (11, "two or more to judge")]
)
def test_too_few(calibration: int, reason: str, folder: Path) -> None:
    task = ImageClassification(SPEC, outputs=2)
    with pytest.raises(BadInput, match=reason):
        samples(task.load(folder), task, calibration=calibration)
