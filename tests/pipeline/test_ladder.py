"""One file with operating points: written, read, run at every point."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shoestring as package
from shoestring.core.errors import BadInput
from shoestring.core.receipt import FAILS, HOLDS
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.grids import stored
from shoestring.deploy.packing import shift_of
from shoestring.deploy.wire import parse_model
from shoestring.pipeline import ladder
from shoestring.pipeline.ladder import Climbed, fit_ladder
from shoestring.pipeline.original import Original
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

# What the program of several processes trains on; pytest's folders are no packages to import from.
Noise: Any = runpy.run_path(str(Path(__file__).with_name("recovering.py")), run_name="program")["Noise"]
PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")
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
    assert [step.step for step in receipt.ledger] == ["original, fp32", "8 bits", "slim"]
    assert receipt.ledger[-1].size_bytes == receipt.subject.size_bytes
    assert type(receipt).from_json(receipt.to_json()) == receipt
    assert len(fitted.candidates) == 8
    assert fitted.path.with_suffix(".training").exists() is False


def test_how_many(original: Original, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--ladder 1: give 2 to 16 operating points"):
        fit_ladder(original, samples, Request(tmp_path / "x.shoe", ladder=1))


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrower ones are faster and keep less: of so small a network neither is sure."""
    looked = ladder.candidates

    def candidates(*given: Any) -> Any:
        found, runtime = looked(*given)
        return [replace(one, ms=one.shape.width, kept=100 * one.shape.width) for one in found], runtime

    monkeypatch.setattr(ladder, "candidates", candidates)
    monkeypatch.setattr(ladder, "peak", lambda *_: 60.0)


@pytest.mark.usefixtures("brief", "ranked")
@pytest.mark.parametrize(
    "methods", [("magnitude:4x1@50%:uniform",), ("lsq+:w4a4",), ("magnitude:4x1@50%:uniform", "lsq+:w8a8")], ids=str
)
def test_methods_beside_it(methods: tuple[str, ...], original: Original, samples: Samples, tmp_path: Path) -> None:
    """From training to the file: one set of codes, with the zeros of the large network in each point."""
    given = replace(samples, training=Noise(), provenance={"sha256": "0" * 64, "training": 12})
    request = Request(
        tmp_path / "x.shoe",
        methods=methods,
        recipe=Recipe(epochs=2, batch=4, lr=0.02),
        runtime="onnxruntime",
        ladder=2,
        slim="w=0.5,1:d=0",
        seconds=1.0,
        preprocess=SPEC,
    )
    done = fit_ladder(original, given, request)
    assert done is not None
    artifact = shoe.read(done.path)
    narrow, wide = (parse_model(artifact.onnx(index)) for index in range(2))
    assert [point.measured["shape"] for point in artifact.points] == ["w=0.5", "w=1"]
    ours, theirs = stored(narrow), stored(wide)
    pruned, low = "magnitude" in methods[0], "w4" in methods[0]
    for name, layer in ours.items():
        cut = theirs[name].weight[tuple(slice(size) for size in layer.weight.shape)]
        np.testing.assert_array_equal(layer.weight, cut, name)
        entry = next(part for tensor, part in artifact.points[0].weights.items() if tensor.startswith(f"{name}."))
        assert ("bits" in entry) == (low and name not in ("stem.0", "classifier"))
        if "bits" in entry:
            assert np.abs(layer.weight >> shift_of(theirs[name].weight)).max() <= 8
        if pruned and name in PROJECTS:
            for weight in (layer.weight, theirs[name].weight):
                blocks = weight.reshape(len(weight) // 4, 4, -1)
                assert (blocks == 0).all(1).mean() >= (0.5 if len(weight) == 16 else 0.1)

    names = [method.partition(":")[0] for method in methods]
    told = artifact.provenance["methods"][PROJECTS[0]].split(", ")
    assert [text.partition(":")[0] for text in told] == ["slim", *names]
    assert done.receipt.ledger[-1].step == ", ".join(["slim", *names, "trained"])
    notes = " ".join(done.receipt.notes)
    assert ("Pruned while it trained (magnitude)" in notes) == pruned
    assert ("cheapest first," in notes) == pruned
    assert ("could not be shared" in notes) is False
    assert ("Bits of weights: 4 at 4, 2 at 8, of 6 layers" in notes) == low
    assert type(done.receipt).from_json(done.receipt.to_json()) == done.receipt
    assert not done.path.with_suffix(".training").exists()
    if pruned and "engine" in runtimes.installed():
        found = [runtimes.get("engine").open(graph.SerializeToString(), threads=1).steps() for graph in (narrow, wide)]
        for steps, size in zip(found, (8, 16), strict=True):
            weight = (ours if size == 8 else theirs)[PROJECTS[0]].weight
            full = size * size * 16 * 16  # a convolution of 1x1 on 16x16 pixels
            blocks = (weight.reshape(size // 4, 4, size) != 0).any(1).mean()
            (step,) = (step for step in steps if step.name == PROJECTS[0])
            assert full * blocks <= step.multiplies <= full  # what is left of a row is padded to fours
        assert step.multiplies <= 0.75 * full
