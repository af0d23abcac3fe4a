"""From a network and what the user named to a Task, data and Samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from shoestring.core.errors import BadInput
from shoestring.image.fitting import image_task, judged_samples, labels, load, spec_of
from shoestring.pipeline.original import Original


def original(shape: tuple[int, ...], output: list[int], **known: Any) -> Original:
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)]
        for name, dims in (("input", [1, *shape]), ("output", output))
    ]
    return Original("net", helper.make_model(helper.make_graph([], "g", *ends)), (), shape, **known)


def test_the_networks_own_spec_comes_first() -> None:
    spec = {"kind": "image", "resize": None, "interpolation": "bilinear", "crop": [4, 4], "mean": [0.0] * 3}
    assert spec_of(original((3, 4, 4), [1, 10], preprocess=spec)) is spec


def test_photographs_get_the_usual_spec() -> None:
    spec = spec_of(original((3, 224, 224), [1, 10]))
    assert spec["kind"] == "image" and spec["crop"] == [224, 224] and spec["resize"] == 256
    # ImageNet's mean and deviation in 0..255, as published for 0..1
    assert np.allclose(spec["mean"], np.array([0.485, 0.456, 0.406]) * 255)
    assert np.allclose(spec["std"], np.array([0.229, 0.224, 0.225]) * 255)


def test_an_oblong_crop_fits_into_what_was_resized() -> None:
    spec = spec_of(original((3, 96, 192), [1, 10]))
    assert spec["resize"] >= max(spec["crop"])


@pytest.mark.parametrize("shape", [(1, 28, 28), (12,), (4, 8, 8)])
def test_other_inputs_are_tensors(shape: tuple[int, ...]) -> None:
    assert spec_of(original(shape, [1, 10])) == {"kind": "tensor", "shape": list(shape)}


def test_the_task_knows_how_many_outputs_there_are() -> None:
    assert image_task(original((3, 8, 8), [1, 7])).outputs == 7
    assert image_task(original((3, 8, 8), [1, 7, 4, 4])).outputs == 0  # a dense map has no classes


@pytest.mark.parametrize(("data", "demo"), [(None, False), ("photos", True)])
def test_data_or_demo_but_one_of_them(data: str | None, demo: bool) -> None:
    with pytest.raises(BadInput, match="give --data DIR, or --demo"):
        load(data, demo, image_task(original((3, 8, 8), [1, 2])))


@pytest.fixture
def photos(save: Callable[..., Path], tmp_path: Path) -> Path:
    for number in range(8):
        save(tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number}.png", seed=number)
    return tmp_path / "photos"


def test_classes_of_the_data_name_the_outputs(photos: Path) -> None:
    task = image_task(original((3, 8, 8), [1, 2]))
    assert labels(task, load(photos, False, task)) == ("cat", "dog")
    named = image_task(original((3, 8, 8), [1, 2], labels=("dog", "cat")))
    assert labels(named, load(photos, False, named)) == ("dog", "cat")


def test_samples_of_a_receipt_are_those_of_the_fit(photos: Path) -> None:
    network = original((3, 8, 8), [1, 2])
    one, other = (judged_samples(network, photos, False, calibration=4, seed=3) for _ in range(2))
    assert one is not None and other is not None
    assert [x.tobytes() for x in one.judgement] == [x.tobytes() for x in other.judgement]
    assert one.provenance == other.provenance


def test_nothing_to_judge_and_nothing_to_judge_against(photos: Path) -> None:
    assert judged_samples(None, None, False, 4, 0) is None
    with pytest.raises(BadInput, match="add --original MODEL"):
        judged_samples(None, photos, False, 4, 0)
