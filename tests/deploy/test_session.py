"""Running artifacts: what a user gets for a photograph, and one line for everything wrong."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from PIL import Image

import shoestring
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.preprocess import preprocess
from shoestring.deploy.session import Model, Prediction, load
from shoestring.deploy.shoe import Contents

Build = Callable[..., ModelProto]
SPEC = {"kind": "image", "resize": 8, "interpolation": "bilinear", "crop": [8, 8], "mean": [127] * 3, "std": [128] * 3}
LABELS = ("cat", "dog", "cow", "hen", "fox")
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)


@pytest.fixture
def contents(classifier: ModelProto) -> Contents:
    graph = classifier.SerializeToString()
    trust(graph)  # the child process has its own tests
    measured = {"runtime": "onnxruntime"}
    return Contents(SPEC, LABELS, (Point("m.onnx", measured=measured),), {"m.onnx": graph})


@pytest.fixture
def opened(contents: Contents, tmp_path: Path) -> Callable[..., Model]:
    """Writes `contents`, changed, and loads the file."""

    def make(*, load_with: dict[str, Any] | None = None, **changes: Any) -> Model:
        shoe.write(tmp_path / "x.shoe", replace(contents, **changes))
        return load(tmp_path / "x.shoe", **(load_with or {}))

    return make


def expected(classifier: ModelProto) -> np.ndarray:
    session = runtimes.get("onnxruntime").open(classifier.SerializeToString())
    return session(preprocess(SPEC, PHOTOGRAPH)[None])[0][0]


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_a_photograph_in_classes_out(opened: Callable[..., Model], classifier: ModelProto, runtime: str) -> None:
    model = opened(load_with={"runtime": runtime})
    assert model.runtime == runtime and model.spec == SPEC
    # In bfloat16, where the runtime does that by itself, eight bits of a number are kept.
    atol = 2**-8 * 5 if runtimes.get(runtime).default_precision() == "bf16" else 1e-4
    logits = expected(classifier)
    assert np.allclose(model.outputs(PHOTOGRAPH), logits, atol=atol)
    found = model(PHOTOGRAPH)
    probabilities = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    order = np.argsort(-probabilities)
    assert [prediction.label for prediction in found] == [LABELS[index] for index in order]
    assert [prediction.index for prediction in found] == list(order)
    assert np.allclose([prediction.probability for prediction in found], probabilities[order], atol=atol / 10)
    assert len(model(PHOTOGRAPH, top=2)) == 2


def test_paths_and_images_are_photographs_too(opened: Callable[..., Model], tmp_path: Path) -> None:
    model, image = opened(), Image.fromarray(PHOTOGRAPH)
    image.save(tmp_path / "photograph.png")
    for same in (image, tmp_path / "photograph.png", str(tmp_path / "photograph.png")):
        assert np.array_equal(model.outputs(same), model.outputs(PHOTOGRAPH))
    assert np.array_equal(model.prepare(image), preprocess(SPEC, PHOTOGRAPH)[None])


def test_the_front_page_loads(opened: Callable[..., Model], tmp_path: Path) -> None:
    opened()
    assert shoestring.load(tmp_path / "x.shoe")(PHOTOGRAPH) == opened()(PHOTOGRAPH)


@pytest.mark.parametrize("labels", [(), LABELS[:2]])
def test_missing_labels_are_indices(opened: Callable[..., Model], labels: tuple[str, ...]) -> None:
    found = {prediction.index: prediction.label for prediction in opened(labels=labels)(PHOTOGRAPH)}
    assert found == {i: labels[i] if i < len(labels) else str(i) for i in range(5)}


def test_large_scores_do_not_overflow(opened: Callable[..., Model]) -> None:
    model = opened()
    assert model.best(np.array([1e4, -1e4, 0, 0, 0], np.float32), top=1) == [Prediction("cat", 0, 1.0)]
    with pytest.raises(BadInput, match="not finite"):
        model.best(np.array([np.nan, 0, 0, 0, 0], np.float32))


def test_other_outputs_are_no_classes(opened: Callable[..., Model]) -> None:
    with pytest.raises(BadInput, match=r"\(5, 2\) is no list of class scores; use .outputs"):
        opened().best(np.zeros((5, 2), np.float32))


@pytest.mark.parametrize("measured", ["openvino", "engine", "nonsense", ["openvino"], None])
def test_a_runtime_that_is_not_here_falls_back(
    opened: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, measured: Any
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: sys if name == "onnxruntime" else None)
    monkeypatch.setattr(runtimes, "why_no_engine", lambda: "the engine was not built")
    model = opened(points=(Point("m.onnx", measured={"runtime": measured}),))
    assert model.runtime == "onnxruntime"
    with pytest.raises(BadInput, match="openvino is not installed here"):
        opened(load_with={"runtime": "openvino"})


@pytest.mark.skipif("openvino" not in runtimes.installed(), reason="openvino is not installed")
def test_the_runtime_that_was_measured_is_taken(opened: Callable[..., Model]) -> None:
    assert opened(points=(Point("m.onnx", measured={"runtime": "openvino"}),)).runtime == "openvino"


def test_points_are_chosen(opened: Callable[..., Model], contents: Contents, classifier: ModelProto) -> None:
    doubled = ModelProto()
    doubled.CopyFrom(classifier)
    doubled.graph.node[-1].attribute.append(helper.make_attribute("alpha", 2.0))
    graph = doubled.SerializeToString()
    trust(graph)
    two = {"points": (*contents.points, Point("n.onnx")), "members": {**contents.members, "n.onnx": graph}}
    first, second = (opened(load_with={"point": point}, **two).outputs(PHOTOGRAPH) for point in (0, 1))
    np.testing.assert_array_equal(opened(**two).outputs(PHOTOGRAPH), second)  # the richest
    offset = np.arange(5)  # the head's
    assert np.allclose(second - offset, 2 * (first - offset), atol=1e-4)
    for point in (2, -1):
        with pytest.raises(BadInput, match="there is no point"):
            opened(load_with={"point": point}, **two)


def test_wrong_requests_are_refused_in_one_line(opened: Callable[..., Model], build: Build, tmp_path: Path) -> None:
    def refuse(match: str, **changes: Any) -> None:
        with pytest.raises(BadInput, match=match) as refused:
            opened(**changes)
        assert "\n" not in str(refused.value)

    refuse("unknown 'tflite'", load_with={"runtime": "tflite"})
    refuse("its preprocessing gives", preprocess={**SPEC, "crop": [7, 8]})
    refuse("its preprocessing gives", preprocess={"kind": "tensor", "shape": [8, 8]})
    two = build([helper.make_node("Relu", ["x"], ["y"])], {}, [1, 3, 8, 8], [1, 3, 8, 8])
    two.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, 8, 8]))
    two.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "z"], ["y"]))
    graph = two.SerializeToString()
    trust(graph)
    refuse("its network takes", members={"m.onnx": graph})
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path / "absent.shoe")


def test_a_hostile_file_is_refused_in_one_line(opened: Callable[..., Model], classifier: ModelProto) -> None:
    evil = ModelProto()
    evil.CopyFrom(classifier)
    evil.graph.node[1].op_type, evil.graph.node[1].domain = "PyOp", "ai.onnx.contrib"
    with pytest.raises(BadInput, match=r"x\.shoe: node 'relu' .* is not allowed") as refused:
        opened(members={"m.onnx": evil.SerializeToString()})
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match=r"x\.shoe: "):
        opened(members={"m.onnx": classifier.SerializeToString()[:-20]})


def test_a_file_whose_network_cannot_run_is_refused(opened: Callable[..., Model], build: Build) -> None:
    """It passes every check of its form; the child process finds out."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    wrong = build(nodes, {"s": np.array([7, 7])}, [1, 3, 8, 8], ["a", "b"])
    with pytest.raises(BadInput, match=r"x\.shoe: onnxruntime cannot run it: ") as refused:
        opened(members={"m.onnx": wrong.SerializeToString()})
    assert "\n" not in str(refused.value)
