"""From images to the inputs of a fit: who calibrates, who judges, and what they look like."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.image.data import load_images
from shoestring.image.task import ImageClassification
from shoestring.pipeline.dataset import Dataset
from shoestring.pipeline.drawing import Inputs, samples
from shoestring.pipeline.samples import Samples

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
    assert made.training is None


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
    ("calibration", "reason"), [(0, "at least 1"), (12, "cannot give 12"), (11, "leave 1; leave two or more to judge")]
)
def test_too_few(calibration: int, reason: str, folder: Path) -> None:
    task = ImageClassification(SPEC, outputs=2)
    with pytest.raises(BadInput, match=reason):
        samples(task.load(folder), task, calibration=calibration)


PLAIN = {**SPEC, "resize": None}


@pytest.fixture
def plain(tmp_path: Path) -> Callable[..., Dataset]:
    """Data sets whose pictures, of two classes, have one colour each, told by its red: no augmentation changes it."""

    def write(colours: range, name: str = "data", groups: int = 1) -> Dataset:
        (tmp_path / name).mkdir()
        for red in colours:
            Image.new("RGB", (8, 8), (red, 0, 0)).save(tmp_path / name / f"{red}.png")
        rows = (f"{red}.png,{red % 2},{red // groups}" for red in colours)
        (tmp_path / name / "labels.csv").write_text("\n".join(["file,class_index,group", *rows]))
        return ImageClassification(PLAIN, outputs=2).load(tmp_path / name)

    return write


def reds(inputs: Iterable[np.ndarray]) -> list[int]:
    return [round(float(x.reshape(3, 8, 8)[0, 0, 0]) * 50 + 100) for x in inputs]


def trained_on(made: Samples) -> dict[int, int]:
    """Red to target."""
    assert made.training is not None
    return {reds([x])[0]: int(y) for xs, ys in made.training.epoch(0, 10_000) for x, y in zip(xs, ys, strict=True)}


def test_half_trains_and_the_rest_judges(plain: Callable[..., Dataset]) -> None:
    dataset, task = plain(range(40)), ImageClassification(PLAIN, outputs=2)
    made = samples(dataset, task, calibration=6, seed=3, train=True)
    trained, calibration, judged = trained_on(made), reds(made.calibration), reds(made.judgement)
    assert (len(trained), len(calibration), len(judged)) == (20, 6, 20)
    assert set(trained) | set(judged) == set(range(40))
    assert set(calibration) <= set(trained)
    assert trained == {red: red % 2 for red in trained}
    assert sum(trained.values()) == 10  # the classes have equal shares
    assert made.targets is not None
    assert made.targets.tolist() == [red % 2 for red in judged]
    counts = {"calibration": 6, "training": 20, "judgement": 20, "seed": 3}
    assert made.provenance == {"sha256": dataset.fingerprint, **counts}
    # What calibrates a file does not depend on whether it was trained.
    assert reds(samples(dataset, task, calibration=6, seed=3).calibration) == calibration


def test_training_splits_by_photograph(plain: Callable[..., Dataset]) -> None:
    made = samples(plain(range(42), groups=5), ImageClassification(PLAIN, outputs=2), calibration=6, train=True)
    assert len(trained_on(made)) == 21
    assert not {red // 5 for red in trained_on(made)} & {red // 5 for red in reds(made.judgement)}


@pytest.mark.parametrize("train", [False, True])
def test_other_data_judge(plain: Callable[..., Dataset], train: bool) -> None:
    dataset, judge, task = plain(range(30)), plain(range(50, 60), "judge"), ImageClassification(PLAIN, outputs=2)
    made = samples(dataset, task, 6, 3, judge, train)
    assert reds(made.judgement) == sorted(range(50, 60), key=lambda red: f"{red}.png")
    assert set(reds(made.calibration)) < set(range(30))
    assert made.provenance is not None
    assert made.provenance["judged_sha256"] == judge.fingerprint
    assert made.provenance["judgement"] == 10
    assert reds(samples(dataset, task, 6, 3).calibration) == reds(made.calibration)
    if train:
        assert set(trained_on(made)) == set(range(30))
        assert made.provenance["training"] == 30
    else:
        assert made.training is None
        assert "training" not in made.provenance


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("colours", "shared"), [(range(30), 30), (range(29, 33), 1)])
def test_no_image_fits_and_judges(plain: Callable[..., Dataset], colours: range, shared: int, train: bool) -> None:
    """Whatever it is called, and whatever its label."""
    dataset, judge = plain(range(30)), plain(colours, "judge")
    items = tuple(replace(item, target=0, group=f"other {item.group}") for item in judge.items)
    for other in (judge, replace(judge, items=items)):
        with pytest.raises(BadInput, match=f"--judge: {shared} of the {len(colours)} inputs .* are in --data too"):
            samples(dataset, ImageClassification(PLAIN, outputs=2), 6, 3, other, train)


def test_training_without_labels(tmp_path: Path, save: Callable[..., Path]) -> None:
    for index in range(6):
        save(tmp_path / "data" / f"{index}.png", seed=index)
    task = ImageClassification(SPEC)
    made = samples(task.load(tmp_path / "data"), task, calibration=2, train=True)
    assert made.training is not None
    assert not made.training.labelled
    assert (len(made.training), len(made.judgement), made.targets) == (3, 3, None)


@pytest.mark.parametrize(
    ("count", "calibration", "reason"),
    [
        (12, 0, "0 inputs of the 6 to fit on; take 1 to 6"),
        (12, 7, "7 inputs of the 6 to fit on; take 1 to 6"),
        (3, 1, None),
        (2, 1, "1 inputs to fit on leave 1; leave two"),
        (1, 1, "cannot give 1 and leave any to judge"),
    ],
)
def test_too_few_to_train(count: int, calibration: int, reason: str | None, plain: Callable[..., Dataset]) -> None:
    dataset, task = plain(range(count)), ImageClassification(PLAIN, outputs=2)
    if reason is None:
        assert len(samples(dataset, task, calibration, train=True).judgement) == 2
        return
    with pytest.raises(BadInput, match=reason):
        samples(dataset, task, calibration, train=True)


def test_all_may_calibrate_when_others_judge(plain: Callable[..., Dataset]) -> None:
    dataset, judge, task = plain(range(6)), plain(range(50, 53), "judge"), ImageClassification(PLAIN, outputs=2)
    assert sorted(reds(samples(dataset, task, 6, judge=judge).calibration)) == list(range(6))
    with pytest.raises(BadInput, match="7 inputs of the 6 to fit on"):
        samples(dataset, task, 7, judge=judge)
    with pytest.raises(BadInput, match="leave two or more to judge"):
        samples(dataset, task, 6, judge=judge[:1])


def test_some_are_held_for_what_is_decided_afterwards(folder: Path) -> None:
    """None of them does anything else; with training a fifth of what could train."""
    task = ImageClassification(SPEC, outputs=2)
    dataset = task.load(folder)
    for train, held, training in ((True, 0, 6), (False, 4, 0)):
        made = samples(dataset, task, calibration=2, seed=3, train=train, hold=True)
        assert made.provenance is not None
        assert (made.provenance["held"], made.provenance.get("training", 0)) == (held, training)
        assert len(made.judgement) == 6  # half, as with training
        if not held:  # a fifth of four is none
            assert made.held is None
    assert made.held is not None
    parts = [[x.tobytes() for x in part] for part in (made.calibration, made.judgement, made.held.judgement)]
    assert len({x for part in parts for x in part}) == sum(map(len, parts)) == 12
    assert made.held.targets is not None
    assert made.held.scores is not None
    assert len(made.held.targets) == 4


def test_what_is_held_does_not_train(folder: Path, tmp_path: Path, save: Callable[..., Path]) -> None:
    task = ImageClassification(SPEC, outputs=2)
    for index in range(2):
        save(tmp_path / "judge" / "ab"[index] / "x.png", seed=100 + index)
    dataset, judge = task.load(folder), task.load(tmp_path / "judge")
    made = samples(dataset, task, calibration=2, judge=judge, train=True, hold=True)
    assert made.held is not None
    assert made.training is not None
    assert (len(made.training), len(made.held.judgement)) == (10, 2)
    alone = samples(dataset, task, calibration=2, judge=judge, train=True)
    np.testing.assert_array_equal(np.concatenate(made.calibration), np.concatenate(alone.calibration))
