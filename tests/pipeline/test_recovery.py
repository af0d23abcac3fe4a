"""Training from what reconstruction left: where it starts, what is held, what comes of it, and going on."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from shoestring.compress.method import Applied
from shoestring.core.pattern import BlockPattern, NMPattern, Pattern
from shoestring.deploy import shoe
from shoestring.deploy.normal_form import violations
from shoestring.deploy.weights import weights
from shoestring.pipeline import fit as fitting
from shoestring.pipeline import recovery
from shoestring.pipeline.following import Place
from shoestring.pipeline.making import Made, make
from shoestring.pipeline.notes import how
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import steps
from shoestring.pipeline.planned import floats
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.pruning import written
from shoestring.pipeline.recovery import NAME, recover
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

PROGRAM = Path(__file__).with_name("recovering.py")
PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")
DEPTHWISE = "blocks.0.depthwise.0"
FOUR = BlockPattern(4, 1)
PRUNED = dict.fromkeys(PROJECTS, "magnitude:4x1@50%")
RECIPE = Recipe(epochs=2, batch=4, lr=0.02)  # six steps
Noise: Any = runpy.run_path(str(PROGRAM), run_name="program")["Noise"]
Run = Callable[..., Made]


@pytest.fixture
def training(samples: Samples) -> Samples:
    return replace(samples, training=Noise(), provenance={"sha256": "0" * 64, "training": 12})


@pytest.fixture
def recovered(original: Original, training: Samples, tmp_path: Path) -> Run:
    """`recovered(picks)`: by layer, the rest in 8 bits, trained."""

    def run(picks: dict[str, str], samples: Samples = training, **request: Any) -> Made | None:
        given = {"out": tmp_path / "x.shoe", "runtime": "onnxruntime", "recipe": RECIPE, **request}
        return recover(original, samples, Request(**given), steps(picks), lambda *_: None)

    return run


@pytest.fixture
def untrained(original: Original, training: Samples, tmp_path: Path) -> Run:
    """The same reconstructed alone."""

    def run(picks: dict[str, str]) -> Made | None:
        request = Request(out=tmp_path / "alone.shoe", runtime="onnxruntime")
        return make(original, training, request, steps(picks), lambda *_: None)

    return run


@dataclass
class Start:
    """What training was handed."""

    student: nn.Module
    applied: Applied
    recipe: Recipe
    place: Place


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Start]:
    """Nothing trains; what would be trained is listed."""
    found: list[Start] = []

    def follow(original: Original, student: nn.Module, applied: Applied, samples: Any, *how: Any) -> bool:
        found.append(Start(student, applied, *how[:2]))
        return True

    monkeypatch.setattr(recovery, "follow", follow)
    return found


def empty(graph: ModelProto, layer: str) -> np.ndarray:
    """The blocks without anything in them."""
    return FOUR.norms(weights(graph)[layer]) == 0


def near(model: nn.Module, alone: Made, inputs: list[np.ndarray]) -> None:
    """`model` does what the graph in 8 bits does with its codes as floats, and about what that itself does where it was
    calibrated."""
    assert alone.pruned is not None
    with torch.no_grad():
        ours = model.eval()(torch.from_numpy(np.concatenate(inputs))).numpy()
    graph = floats(alone.pruned.original.graph, alone.subject)
    np.testing.assert_allclose(ours, outputs(graph, "onnxruntime", inputs), rtol=1e-3, atol=1e-3)
    theirs = outputs(alone.subject, "onnxruntime", inputs[2:8])
    assert np.abs(ours[2:8] - theirs).max() < 0.1 * np.abs(theirs).max()


def test_zeros_lie_where_they_were_chosen(recovered: Run, untrained: Run) -> None:
    """In whole blocks, half of all; what is left was trained."""
    alone, done = untrained(PRUNED), recovered(PRUNED)
    assert violations(done.subject) == []
    assert done.pruned is not None
    for name in PROJECTS:
        assert FOUR.sparsity(weights(done.subject)[name]) == 0.5
        np.testing.assert_array_equal(empty(done.subject, name), empty(alone.subject, name))
        assert not np.array_equal(weights(done.subject)[name], weights(alone.subject)[name])
        expected = FOUR.expand(~empty(done.subject, name), (16, 16, 1, 1))
        assert np.array_equal(done.pruned.masks[name].numpy(), expected)
    assert set(done.pruned.masks) == set(PROJECTS)
    assert set(done.pruned.settings) == set(PROJECTS)
    assert np.count_nonzero(weights(done.subject)["stem.0"]) > 0.9 * 432


def test_what_is_told_of_it(recovered: Run, untrained: Run, training: Samples) -> None:
    """Its epochs; its settings are those of the same without training."""
    done, alone = recovered(PRUNED), untrained(PRUNED)
    assert done.pruned is not None
    assert done.pruned.epochs == 2
    assert how(training, done)[0].startswith("Trained for 2 epochs; then 6 of 6 layers in 8 bits")
    assert written(done.settings, done.pruned) == written(alone.settings, alone.pruned)
    assert done.picks == alone.picks
    assert done.refitted is not None
    assert done.refitted.errors
    assert done.dense.build().SerializeToString() == alone.dense.build().SerializeToString()


def test_training_starts_at_the_reconstructed_network(
    recovered: Run, untrained: Run, started: list[Start], original: Original, inputs: list[np.ndarray]
) -> None:
    """With its zeros, up to the grids of activations; and in training mode it is the same network."""
    recovered(PRUNED)
    alone = untrained(PRUNED)
    (start,) = started
    model = start.applied.model
    near(model, alone, inputs)
    fitted = torch.from_numpy(np.concatenate(inputs[:8]))
    with torch.no_grad():
        torch.testing.assert_close(model.train()(fitted), model.eval()(fitted), rtol=1e-3, atol=1e-3)
    for name in PROJECTS:
        weight = model.get_submodule(name).weight.detach().numpy()
        np.testing.assert_array_equal(FOUR.norms(weight) == 0, empty(alone.subject, name))
    assert (start.recipe.epochs, start.recipe.frozen) == (2, 1.0)
    assert start.student is original.model
    assert "magnitude:4x1@50%" in start.place.settings[PROJECTS[0]]
    assert original.model is not None
    assert original.model.get_submodule(PROJECTS[0]).weight.all()  # which is as it was


def test_nothing_trained_comes_back_as_it_was(
    recovered: Run, untrained: Run, started, inputs: list[np.ndarray]
) -> None:
    """Out of the quantised form, into torch, folded, and quantised once more."""
    done, alone = recovered(PRUNED), untrained(PRUNED)
    ours, theirs = (outputs(made.subject, "onnxruntime", inputs[8:]) for made in (done, alone))
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()


def test_a_process_that_helped(recovered: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "follow", lambda *_: False)
    monkeypatch.setattr(recovery, "finish", None)
    assert recovered(PRUNED) is None


def test_codes_of_zero_may_become_something(recovered: Run, started: list[Start]) -> None:
    """Weights of 4 bits are zero here and there; only whole blocks of them are held."""
    done = recovered(dict.fromkeys(PROJECTS, "magnitude:4x1@50%, int8:w4"))
    ((start,), masks) = started, done.pruned.masks
    for name in PROJECTS:
        weight, keep = start.applied.model.get_submodule(name).weight.detach(), masks[name]
        assert ((weight == 0) & keep).any()
        blocks = FOUR.norms(keep.numpy().astype(float))
        assert set(np.unique(blocks)) == {0.0, 2.0}  # a block has four weights, or none


@pytest.mark.parametrize(
    ("pattern", "weight", "stays"),
    [
        (BlockPattern(2, 1), [[0, 1], [2, 0], [0, 0], [0, 3]], [[1, 1], [1, 1], [0, 1], [0, 1]]),
        (BlockPattern(1, 1), [[0, 1], [2, 0]], [[0, 1], [1, 0]]),
        (NMPattern(1, 2), [[0, 1], [2, 0]], [[0, 1], [1, 0]]),
    ],
)
def test_what_stays(pattern: Pattern, weight: Any, stays: Any) -> None:
    assert np.array_equal(recovery._kept(np.array(weight, float), pattern, 1), np.array(stays, bool))


def test_decomposed_layers(recovered: Run) -> None:
    """Sums stay sums; the small layer behind them is trained."""
    picks = {DEPTHWISE: "structured:n=2", PROJECTS[0]: "magnitude:4x1@50%"}
    done = recovered(picks)
    assert violations(done.subject) == []
    found = weights(done.subject)
    assert found[DEPTHWISE].shape == (16, 1, 2, 2)
    assert found[f"{DEPTHWISE}_pool"].shape == (16, 1, 2, 2)
    assert np.ptp(found[f"{DEPTHWISE}_pool"]) == 0
    assert FOUR.sparsity(found[PROJECTS[0]]) == 0.5
    assert done.pruned is not None
    model = done.pruned.original.model
    assert model is not None
    sums = model.get_submodule(f"{DEPTHWISE}_pool").weight
    assert isinstance(sums, Tensor)
    assert torch.equal(sums, torch.ones(16, 1, 2, 2))
    assert not sums.requires_grad


def test_decomposed_layers_alone(recovered: Run, started: list[Start], untrained: Run, inputs) -> None:
    """Nothing is held."""
    done, alone = recovered({DEPTHWISE: "structured:n=2"}), untrained({DEPTHWISE: "structured:n=2"})
    assert done.pruned is not None
    assert (done.pruned.masks, done.pruned.epochs) == ({}, 2)
    (start,) = started
    near(start.applied.model, alone, inputs)


def test_layers_in_fp32_train_too(recovered: Run, original: Original) -> None:
    done = recovered({PROJECTS[0]: "magnitude:4x1@50%", "classifier": "fp32"})
    ours, before = weights(done.subject)["classifier"], weights(original.graph)["classifier"]
    assert ours.dtype == np.float32
    assert not np.array_equal(ours, before)
    np.testing.assert_allclose(ours, before, atol=0.2 * np.abs(before).max())


def test_as_a_file(original: Original, training: Samples, timed, tmp_path: Path, monkeypatch) -> None:
    """Through the gate, with its receipt; nothing is left of the training."""
    timed({})
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)
    monkeypatch.setattr(fitting, "make", lambda *given: recover(*given[:3], steps(PRUNED), given[4]))
    request = Request(out=tmp_path / "x.shoe", runtime="onnxruntime", recipe=RECIPE, methods=("magnitude",))
    done = fitting.fit(original, training, request)
    assert done is not None
    assert done.parity.first_divergence is None
    file = shoe.read(done.path)
    assert file.provenance["methods"][PROJECTS[0]] == "magnitude:4x1@50%:uniform, int8"
    assert file.provenance["epochs"] == 2
    notes = " ".join(done.receipt.notes)
    assert "Trained for 2 epochs; then 6 of 6 layers in 8 bits" in notes
    assert [step.step for step in done.receipt.ledger] == [
        "original, fp32",
        "8 bits",
        "magnitude, trained",
        "reconstruction",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("x.")] == ["x.shoe"]


class Power(Exception):
    pass


class Cut(Noise):
    """Without power before the step of number `fuse`."""

    def __init__(self, fuse: int):
        super().__init__()
        self.fuse = fuse

    def epoch(self, *given: int, **more: int) -> Iterator[Any]:
        for batch in super().epoch(*given, **more):
            self.fuse -= 1
            if not self.fuse:
                raise Power
            yield batch


@pytest.mark.parametrize("off", [0.0, 1e-6])
def test_a_run_that_was_stopped_goes_on(
    off: float, recovered: Run, training: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same file, though where it began may come out a little `off` the second time."""
    straight = recovered(PRUNED, out=tmp_path / "straight.shoe")
    monkeypatch.setattr("shoestring.train.loop.SAVE_SECONDS", 0.0)
    with pytest.raises(Power):
        recovered(PRUNED, replace(training, training=Cut(5)))
    kept = tmp_path / "x.training" / NAME / "last.pt"
    assert torch.load(kept, weights_only=True)["state"]["step"] > 0

    unfold = recovery.unfold

    def moved(model: Any, layers: Any) -> Any:
        return unfold(model, {name: (weight * (1 + off), bias) for name, (weight, bias) in layers.items()})

    monkeypatch.setattr(recovery, "unfold", moved)
    with pytest.raises(Power):
        recovered(PRUNED, replace(training, training=Cut(2)))
    done = recovered(PRUNED)
    assert done.subject.SerializeToString() == straight.subject.SerializeToString()


def test_two_processes(tmp_path: Path) -> None:
    """The first reconstructs; both train what came of it, a bias that was not there before among it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    environment["PYTHONPATH"] = os.pathsep.join([str(PROGRAM.parents[2] / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, *launcher, str(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"start-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert "0.bias" in first
    for name, value in first.items():
        torch.testing.assert_close(value, second[name])
    assert (tmp_path / "end-1.onnx").read_bytes() == b""
    graph = onnx.load(tmp_path / "end-0.onnx")
    assert violations(graph) == []
    assert FOUR.sparsity(weights(graph)["2"]) == 0.5
    kept = FOUR.expand(~empty(graph, "2"), (8, 8, 1, 1))
    assert np.array_equal(first["2.parametrizations.weight.0.keep"].numpy(), kept)
    folders = {path.name.partition("-")[0] for path in (tmp_path / "x.training").iterdir()}
    assert folders == {"reconstruct", NAME}
