"""One file with operating points: written, read, run at every point."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shoestring as package
from shoestring.core.errors import BadInput
from shoestring.core.receipt import FAILS, HOLDS
from shoestring.deploy import shoe
from shoestring.deploy.grids import stored
from shoestring.deploy.wire import parse_model
from shoestring.pipeline.ladder import Climbed, fit_ladder
from shoestring.pipeline.original import Original
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples

SPEC = {
    "kind": "image",
    "resize": None,
    "interpolation": "bilinear",
    "crop": [32, 32],
    "mean": [0.0] * 3,
    "std": [1.0] * 3,
}


@pytest.fixture(scope="module")
def fitted(original: Original, inputs: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Climbed:
    samples = Samples(inputs[:8], inputs[8:])

    def resized(shape: tuple[int, ...]) -> Samples:
        small = [x[..., : shape[1], : shape[2]] for x in [*samples.calibration, *samples.judgement]]
        return replace(samples, calibration=small[:8], judgement=small[8:])

    request = Request(
        tmp_path_factory.mktemp("ladder") / "x.shoe",
        runtime="onnxruntime",
        ladder=3,
        slim="w=0.5,1:d=1:r=0.5",
        seconds=1.0,
        preprocess=SPEC,
    )
    found = fit_ladder(original, replace(samples, resized=resized), request)
    assert found is not None
    return found


def test_points_share_their_weights_and_run(fitted: Climbed, original: Original) -> None:
    artifact = shoe.read(fitted.path)
    assert len(artifact.points) == len(fitted.receipt.ladder) >= 2
    times = [point.measured["latency_ms"] for point in artifact.points]
    assert times == [rung.latency_ms for rung in fitted.receipt.ladder]
    assert artifact.points[-1].measured["shape"].startswith("w=1")
    codes = [stored(parse_model(artifact.onnx(index))) for index in range(len(artifact.points))]
    for own in codes[:-1]:
        for name, layer in own.items():
            wide = codes[-1][name].weight
            narrow = layer.weight
            np.testing.assert_array_equal(narrow, wide[tuple(slice(size) for size in narrow.shape)], name)
    members = [name for name in artifact.members if name.endswith(".npy")]
    assert len(members) == len(stored(parse_model(artifact.onnx(len(artifact.points) - 1))))
    for index in range(len(artifact.points)):
        model = package.load(fitted.path, point=index)
        assert model.session(np.zeros(model.session.inputs[0].shape, np.float32))[0].shape == (1, 10)


def test_the_receipt_is_about_the_richest(fitted: Climbed) -> None:
    receipt = fitted.receipt
    assert receipt.quality is not None
    (gate,) = receipt.budget  # nobody asked; without labels quality is gated, and nothing was trained here
    assert (gate.limit, gate.asked, gate.got) == ("quality", -10, receipt.quality.difference)
    assert receipt.verdict == (HOLDS if gate.met else FAILS)
    assert receipt.ladder[-1].quality == pytest.approx(receipt.quality.subject)
    assert "one elastic network" in " ".join(receipt.notes)
    assert type(receipt).from_json(receipt.to_json()) == receipt
    assert len(fitted.candidates) == 8
    assert fitted.path.with_suffix(".training").exists() is False


def test_how_many(original: Original, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--ladder 1: give 2 to 16 operating points"):
        fit_ladder(original, samples, Request(tmp_path / "x.shoe", ladder=1))
