from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.core.task import Task
from shoestring.image.dataset import ArrayImage
from shoestring.image.task import ImageClassification, batches
from shoestring.pipeline.dataset import Dataset, Item

SAMPLES = Path(__file__).parents[3] / "shared/data/imagenet_samples"
SPEC = {"kind": "image", "resize": 8, "interpolation": "bilinear", "crop": [8, 8], "mean": [127] * 3, "std": [128] * 3}
LABELS = ("tench", "great white shark", "crane", "hen", "crane")
WNIDS = ("n01440764", "n01484850", "n02012849", "n01514859", "n03126707")


def named(*names):
    """One image a class."""
    images = np.zeros((len(names), 8, 8, 3), np.uint8)
    return Dataset(tuple(Item(ArrayImage(images, n), n, str(n)) for n in range(len(names))), names)


def indexed(*targets):
    dataset = named(*map(str, targets))
    items = (replace(item, target=target) for item, target in zip(dataset.items, targets, strict=True))
    return Dataset(tuple(items), indexed=True)


def test_it_is_a_task():
    task: Task = ImageClassification(SPEC, LABELS)
    assert (task.metric, task.unit, task.higher_is_better) == ("top-1", "pt", True)
    assert task.preprocess is SPEC
    assert task.labels == LABELS


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (("hen", "tench"), (3, 0)),
        (("Great_White-Shark", "HEN"), (1, 3)),
        (("n01440764", "n03126707"), (0, 4)),
        (("n02012849", "hen"), (2, 3)),
        (("a", "b", "c", "d", "e"), (0, 1, 2, 3, 4)),
    ],
)
def test_classes_are_matched_to_outputs(names, targets):
    dataset = ImageClassification(SPEC, LABELS, wnids=WNIDS).match(named(*names))
    assert dataset.targets == targets
    assert dataset.indexed
    assert dataset.names == LABELS


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (named("a", "b"), "2 classes do not fit the network's 5 outputs"),
        (named("hen", "zebra"), "class 'zebra' is no label"),
        (named("hen", "crane"), "class 'crane' is a label of several outputs"),
        (indexed(0, 5), "class index 5, but the network has 5 outputs"),
    ],
)
def test_classes_that_do_not_fit_are_refused(dataset, message):
    with pytest.raises(BadInput, match=message):
        ImageClassification(SPEC, LABELS, wnids=WNIDS).match(dataset)


def test_indices_stay_as_they_are():
    assert ImageClassification(SPEC, LABELS).match(indexed(4, 2)).targets == (4, 2)


def test_without_labels_the_number_of_outputs_is_checked():
    assert ImageClassification(SPEC, outputs=3).match(named("a", "b", "c")).targets == (0, 1, 2)
    with pytest.raises(BadInput, match="2 classes do not fit the network's 3 outputs"):
        ImageClassification(SPEC, outputs=3).match(named("a", "b"))
    assert ImageClassification(SPEC).match(named("a", "b")).names == ("a", "b")


def test_unlabelled_data_pass(tmp_path, save):
    save(tmp_path / "a.png")
    assert ImageClassification(SPEC, LABELS).load(tmp_path).targets == (None,)


def test_loading_matches(tmp_path, save):
    save(tmp_path / "hen/1.png")
    save(tmp_path / "tench/1.png")
    assert ImageClassification(SPEC, LABELS).load(tmp_path).targets == (3, 0)


@given(arrays(np.float32, (6, 4), elements=st.floats(-9, 9, width=32)), arrays(np.int64, 6, elements=st.integers(0, 3)))
def test_quality_against_a_loop(outputs, targets):
    scores = ImageClassification(SPEC).quality(outputs, targets)
    expected = [
        float(max(range(4), key=row.__getitem__) == target) for row, target in zip(outputs, targets, strict=True)
    ]
    assert scores.dtype == np.float64
    assert scores.tolist() == expected


def test_a_broken_output_scores_nothing():
    outputs = np.array([[np.nan, 0], [0, np.inf], [0, 1]])
    assert ImageClassification(SPEC).quality(outputs, np.array([0, 1, 1])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (np.zeros((2, 3, 1)), np.zeros(2, int), "are not"),
        (np.zeros((2, 3)), np.zeros(3, int), "are not"),
        (np.zeros((2, 3)), np.array([0, 3]), "target 3 is not one of 3 outputs"),
        (np.zeros((2, 3)), np.array([0, -1]), "label every input"),
        (np.zeros((2, 3)), np.array([0, None]), "give labelled data"),
    ],
)
def test_quality_refuses_what_it_cannot_judge(outputs, targets, message):
    with pytest.raises(BadInput, match=message):
        ImageClassification(SPEC).quality(outputs, targets)


def test_batches_hold_every_image_in_order():
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    items = tuple(Item(ArrayImage(images, n), None if n == 5 else n, str(n)) for n in range(7))
    parts = list(batches(Dataset(items), SPEC, 3))
    assert [len(inputs) for inputs, _ in parts] == [3, 3, 1]
    inputs, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert (inputs.dtype, targets.dtype) == (np.float32, np.int64)
    assert np.array_equal(inputs, (images.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)
    assert targets.tolist() == [0, 1, 2, 3, 4, -1, 6]


def test_grey_pictures_get_three_channels():
    images = np.full((1, 8, 8), 127, np.uint8)
    inputs, _ = next(batches(Dataset((Item(ArrayImage(images, 0), None, "0"),)), SPEC, 1))
    assert inputs.shape == (1, 3, 8, 8)
    assert not inputs.any()


def test_network_inputs_go_in_as_they_are():
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    dataset = Dataset(tuple(Item(ArrayImage(images, n), None, str(n)) for n in range(2)))
    for spec in (SPEC, {"kind": "tensor", "shape": [3, 8, 8]}):
        assert np.array_equal(next(batches(dataset, spec, 2))[0], images)
    with pytest.raises(BadInput, match=r"\[3, 4, 4\]"):
        next(batches(dataset, {**SPEC, "crop": [4, 4]}, 2))


def test_no_batch_is_an_error():
    with pytest.raises(BadInput, match="at least 1"):
        next(batches(named("a"), SPEC, 0))


def test_a_photograph_on_its_side_is_turned_as_when_the_artifact_runs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    inputs, _ = next(batches(ImageClassification(SPEC).load(tmp_path), SPEC, 1))
    assert inputs[0, 0, 0, 7] > 0.9  # the bright upper half is now on the right
    assert inputs[0, 0, 0, 0] < -0.9


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the ImageNet samples are not on this machine")
def test_imagenet_photographs_become_inputs():
    spec = {**SPEC, "resize": 256, "interpolation": "bicubic", "crop": [224, 224]}
    dataset = ImageClassification(spec, outputs=1000).load(SAMPLES)
    inputs, targets = next(batches(dataset, spec, 4))
    assert inputs.shape == (4, 3, 224, 224)
    assert np.abs(inputs).max() <= 1
    assert targets.tolist() == [0, 2, 4, 6]
