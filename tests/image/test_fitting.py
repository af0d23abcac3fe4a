"""What a fit takes of images: preprocessing, labels, data and samples, for every kind of network."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import preprocess
from shoestring.image.fitting import image_task, spec_of
from shoestring.image.task import ImageClassification
from shoestring.pipeline.dataset import Dataset
from shoestring.pipeline.drawing import judged_samples, labels, load, samples
from shoestring.pipeline.original import Original
from shoestring.pipeline.samples import Samples

SPEC = {"kind": "tensor", "shape": [3, 32, 32]}


def network(shape: tuple[int, ...], output: list[int], **given: object) -> Original:
    """An original of these shapes; nothing runs it."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, *shape]), ("y", output))]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
    model: ModelProto = helper.make_model(graph)
    return Original("n", model, (), shape, **given)  # type: ignore[arg-type]


def test_the_networks_own_preprocessing_and_labels_come_first() -> None:
    task = image_task(network((3, 32, 32), [1, 2], preprocess=SPEC, labels=("no", "yes")))
    assert (task.preprocess, task.labels, task.outputs) == (SPEC, ("no", "yes"), 2)


@pytest.mark.parametrize("shape", [(3, 224, 224), (3, 32, 32), (3, 24, 40), (3, 40, 24), (3, 1, 1)])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (37, 37)])
def test_the_usual_preprocessing_fits_every_size(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    """Mid-grey is 0 within a standard deviation, whatever the network's and the photograph's shape."""
    spec = spec_of(network(shape, [1, 10]))
    x = preprocess(spec, np.full((*size, 3), 115, np.uint8))
    assert x.shape == shape
    assert np.abs(x).max() < 0.25
    # As the ImageNet networks of torchvision have it: 224 from 256.
    assert spec["resize"] == round(max(shape[1:]) / 0.875)


@pytest.mark.parametrize("shape", [(1, 28, 28), (64,), (4, 32, 32), (3, 8, 32, 32)])
def test_what_takes_no_photograph_takes_tensors(shape: tuple[int, ...]) -> None:
    assert spec_of(network(shape, [1, 10])) == {"kind": "tensor", "shape": list(shape)}


@pytest.mark.parametrize(("output", "count"), [([1, 10], 10), ([1, 3, 8, 8], 0), ([1], 0), ([1, 1], 1)])
def test_outputs(output: list[int], count: int) -> None:
    assert image_task(network((3, 32, 32), output)).outputs == count


@pytest.mark.parametrize(
    ("own", "named", "outputs", "expected"),
    [
        (("x", "y"), ("a", "b"), 2, ("x", "y")),  # the network's own
        ((), ("a", "b"), 2, ("a", "b")),
        ((), ("a", ""), 2, ()),  # one has no name
        ((), ("a",), 2, ()),
        ((), (), 2, ()),
        ((), (), 0, ()),
        ((), ("a", "b"), 0, ()),  # a map has no classes
    ],
)
def test_labels(own: tuple[str, ...], named: tuple[str, ...], outputs: int, expected: tuple[str, ...]) -> None:
    task = ImageClassification(SPEC, own, outputs)
    assert labels(task, Dataset((), named)) == expected


def test_data_or_demo(photographs: Path) -> None:
    task = image_task(network((3, 32, 32), [1, 10]))
    assert len(load(photographs, False, task)) == 30
    for data, demo in ((None, False), (photographs, True)):
        with pytest.raises(BadInput, match=r"give --data DIR, or --demo .*\(one of the two\)"):
            load(data, demo, task)
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    assert len(load(None, True, task)) == 168


def test_samples_of_a_finished_file(photographs: Path) -> None:
    """None without data; the same split as the fit's with the same arguments."""
    original = network((3, 32, 32), [1, 10])
    assert judged_samples(image_task(original), None, False, 8, 0) is None
    assert judged_samples(None, None, False, 8, 0) is None
    with pytest.raises(BadInput, match="add --original MODEL"):
        judged_samples(None, photographs, False, 8, 0)
    made, again = (judged_samples(image_task(original), photographs, False, 8, 5) for _ in range(2))
    assert made is not None
    assert again is not None
    assert (len(made.calibration), len(made.judgement)) == (8, 22)
    np.testing.assert_array_equal(np.concatenate(list(made.judgement)), np.concatenate(list(again.judgement)))


def judged(samples: Samples | None) -> list[bytes]:
    assert samples is not None
    return [x.tobytes() for x in samples.judgement]


def test_what_trained_a_file_does_not_judge_it(photographs: Path) -> None:
    original = network((3, 32, 32), [1, 10])
    task = image_task(original)
    dataset = load(photographs, False, task)
    made = samples(dataset, task, calibration=8, seed=5, train=True)
    assert len(judged(made)) == 15
    for calibration in (8, 3):
        again = judged_samples(image_task(original), photographs, False, calibration, 5, made.provenance)
        assert judged(again) == judged(made)
    with pytest.raises(BadInput, match="drawn with seed 5; leave --seed 0 out"):
        judged_samples(image_task(original), photographs, False, 8, 0, made.provenance)


def test_what_was_held_does_not_judge_either(photographs: Path) -> None:
    original = network((3, 32, 32), [1, 10])
    task = image_task(original)
    made = samples(load(photographs, False, task), task, calibration=8, seed=5, hold=True)
    assert made.held is not None
    again = judged_samples(image_task(original), photographs, False, 8, 5, made.provenance)
    assert judged(again) == judged(made)
    assert not set(judged(again)) & set(judged(made.held))


def test_what_all_trained_is_refused_to_judge(photographs: Path, tmp_path: Path, save: Callable[..., Path]) -> None:
    original = network((3, 32, 32), [1, 10])
    task = image_task(original)
    for index in range(12):
        save(tmp_path / "judge" / f"{index}.png", seed=index, size=(40, 36))
    dataset, judge = load(photographs, False, task), load(tmp_path / "judge", False, task)
    told = samples(dataset, task, 8, 5, judge, train=True).provenance
    with pytest.raises(BadInput, match="trained on all of these inputs"):
        judged_samples(image_task(original), photographs, False, 8, 5, told)
    # Of the data that judged it some calibrate the baseline; the file itself has seen none of them.
    assert len(judged(judged_samples(image_task(original), tmp_path / "judge", False, 8, 5, told))) == 4
    # Without training, what was not calibrated on may judge.
    told = samples(dataset, task, 8, 5, judge).provenance
    assert len(judged(judged_samples(image_task(original), photographs, False, 8, 5, told))) == 22


@pytest.mark.parametrize(
    "told", [None, {}, {"sha256": "0" * 64, "training": 15, "seed": 1}, {"training": 15}, {"calibration": 8}]
)
def test_other_data_are_split_as_ever(photographs: Path, told: Mapping[str, object] | None) -> None:
    original = network((3, 32, 32), [1, 10])
    expected = judged(judged_samples(image_task(original), photographs, False, 8, 5))
    assert judged(judged_samples(image_task(original), photographs, False, 8, 5, told)) == expected
