"""Pruning as a stage of fit: trained zeros are exact in the file, under 8 bits and fewer; trails, and going on."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from shoestring.compress.structured_conv.settings import Kept
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.pattern import BlockPattern
from shoestring.core.trail import Trail
from shoestring.deploy import shoe
from shoestring.deploy.normal_form import violations
from shoestring.deploy.weights import weights
from shoestring.pipeline.cases import case_of
from shoestring.pipeline.costs import Prices
from shoestring.pipeline.fit import Fitted, fit
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")
FOUR = BlockPattern(4, 1)
RECIPE = Recipe(epochs=4, batch=4, lr=0.02, distil=1.0)  # twelve steps


class Noise:
    """Twelve inputs without labels, in another order each epoch."""

    labelled = False

    def __len__(self) -> int:
        return 12

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index in range(start, len(self) // batch):
            rng = np.random.default_rng([number, index])
            yield rng.standard_normal((batch, 3, 32, 32)).astype(np.float32), np.full(batch, -1)


@pytest.fixture
def fitting(timed, original: Original, samples: Samples, tmp_path: Path, monkeypatch) -> Callable[..., Fitted]:
    """`fitting("ltp:...", ...)`: a fit into `x.shoe` on onnxruntime, with timings and prices made by hand."""
    timed({"fp32": 4.0, "int8": 2.0, "subject": 2.0, "fp32@onnxruntime": 4.0, "int8@onnxruntime": 2.0})
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)
    priced = Prices(dict.fromkeys(PROJECTS, Cost((0.0, 0.9), (1.0, 0.1))), 4.0)
    monkeypatch.setattr("shoestring.pipeline.shaping.costs", lambda *_: priced)
    training = replace(samples, training=Noise(), provenance={"sha256": "0" * 64, "training": 12})

    def run(*methods: str, original: Original = original, samples: Samples = training, **request: Any) -> Fitted:
        given = {"out": tmp_path / "x.shoe", "runtime": "onnxruntime", "methods": methods, "recipe": RECIPE, **request}
        done = fit(original, samples, Request(**given))
        assert done is not None
        return done

    return run


def codes(done: Fitted) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(shoe.read(done.path).onnx())
    assert violations(graph) == []
    return weights(graph)


@pytest.mark.parametrize(
    ("methods", "pattern"),
    [
        (("ltp:1x1@70%",), BlockPattern(1, 1)),
        (("block_ltp:4x1@50%",), FOUR),
        (("magnitude:4x1@50%:milliseconds",), FOUR),
        (("magnitude:4x4@50%:uniform:regrow",), BlockPattern(4, 4)),
        (("magnitude:1x1@70%:global:taylor", "int8:full"), BlockPattern(1, 1)),
        (("block_ltp:4x1@50%", "lsq+:w4a8"), FOUR),
        (("lsq:w8a8", "magnitude:4x1@50%:uniform"), FOUR),
    ],
)
def test_trained_zeros_are_exact_in_the_file(methods, pattern: BlockPattern, fitting, original: Original) -> None:
    """In whole blocks, as many as were asked for; other layers have theirs; the network was trained."""
    done = fitting(*methods)
    found, before = codes(done), weights(original.graph)
    percent = next(float(m.partition("@")[2].partition("%")[0]) for m in methods if "@" in m) / 100
    gone = [pattern.sparsity(found[name]) for name in PROJECTS]
    assert np.mean(gone) == pytest.approx(percent, abs=0.08)
    for name, values in found.items():
        if name not in PROJECTS and "w4" not in " ".join(methods):
            assert np.count_nonzero(values) > 0.95 * values.size
    told = shoe.read(done.path).provenance
    assert told["epochs"] == 4
    name = next(m for m in methods if "@" in m).partition(":")[0]
    assert all(told["methods"][layer].startswith(f"{name}:") for layer in PROJECTS)
    assert all("@" not in text for layer, text in told["methods"].items() if layer not in PROJECTS)
    notes = " ".join(done.receipt.notes)
    assert f"Pruned while it trained ({name})" in notes
    assert ("patent" in notes) == ("ltp" in name)
    assert done.parity.first_divergence is None
    assert before.keys() == found.keys()


def test_zeros_survive_the_training_of_bits(fitting) -> None:
    """What was zero after pruning is zero after quantisation-aware training on top, and at the same places."""
    alone = codes(fitting("block_ltp:4x1@50%", recipe=replace(RECIPE, epochs=2)))
    both = codes(fitting("block_ltp:4x1@50%", "lsq+:w8a8"))  # two epochs each
    for name in PROJECTS:
        np.testing.assert_array_equal(FOUR.norms(alone[name]) == 0, FOUR.norms(both[name]) == 0)
        assert not np.array_equal(alone[name], both[name])


def test_without_training_the_thresholds_are_those_of_magnitude(fitting) -> None:
    """--epochs 0 applies and exports: the blocks that an exact solver would take."""
    one = codes(fitting("block_ltp:4x1@50%", recipe=None, reconstruct=False))
    other = codes(fitting("magnitude:4x1@50%:milliseconds", recipe=None, reconstruct=False))
    for name in PROJECTS:
        assert np.mean((FOUR.norms(one[name]) == 0) == (FOUR.norms(other[name]) == 0)) > 0.9


def test_the_trail(fitting, tmp_path: Path, original: Original) -> None:
    """Points from dense to sparse, each with weights whose zeros are what the point says."""
    done = fitting("block_ltp:4x1@60%")
    trail = Trail.from_json(json.loads((tmp_path / "x.trail/trail.json").read_bytes()))
    assert trail == done.trail
    assert trail.method.startswith("block_ltp:4x1@60%")
    assert (trail.inputs, trail.original, trail.unit) == (8, 100.0, "pt")
    assert 5 <= len(trail.points) <= 10
    times = [point.ms for point in trail.points]
    assert all(later <= earlier + 0.1 for earlier, later in pairwise(times))  # weights move between two looks
    assert times[0] > times[-1]
    assert 0 < trail.points[0].band < 1
    assert trail.points[-1].band is None  # masks are fixed by then
    assert trail.points[-1].zeros >= 0.6 - 1e-6
    sizes = {layer.name: layer.macs for layer in original.layers}
    for index, point in enumerate(trail.points):
        state = load_file(tmp_path / "x.trail" / point.file)
        gone = {path: float((state[f"{path}.weight"] == 0).float().mean()) for path in PROJECTS}
        assert {path: each[index] for path, each in trail.layers.items()} == pytest.approx(gone)
        assert np.mean(list(gone.values())) == pytest.approx(point.zeros)
        saved = sum(sizes[path] * share for path, share in gone.items()) / sum(sizes.values())
        assert point.multiplications == pytest.approx(saved, abs=1e-3)
        assert point.ms == pytest.approx(4.0 - sum(gone.values()))  # by the prices above
        assert 0 < point.quality <= 100
    assert [point.number for point in trail.points] == list(range(1, len(trail.points) + 1))
    assert not (tmp_path / "x.training").exists()


def test_going_on_from_a_point(fitting, tmp_path: Path) -> None:
    """Its zeros stay, its weights move, with fewer bits on top too; and the original is what it is compared with."""
    trail = fitting("block_ltp:4x1@60%").trail
    point = trail.points[2]
    start = tmp_path / "start.safetensors"
    (tmp_path / "x.trail" / point.file).rename(start)
    state = load_file(start)
    for methods in (("block_ltp:4x1@60%",), ("block_ltp:4x1@60%", "lsq+:w4a8")):
        done = fitting(*methods, start=start)
        for path in PROJECTS:
            zero = state[f"{path}.weight"].numpy() == 0
            found = codes(done)[path]
            assert not found[zero].any()
            assert np.count_nonzero(found[~zero]) > 0.5 * (~zero).sum()
    assert done.trail is None
    assert "Pruned before (block_ltp), as start.safetensors has it" in " ".join(done.receipt.notes)
    with pytest.raises(BadInput, match=r"--from: .* add --method, as it was made with"):
        fitting("lsq+:w4a8", start=start)
    with pytest.raises(BadInput, match="does not exist"):
        fitting("ltp", start=tmp_path / "nothing.safetensors")


def test_weights_without_zeros_to_go_on_from(fitting, tmp_path: Path, original: Original) -> None:
    torch.save(original.model.state_dict(), tmp_path / "dense.pt")
    with pytest.warns(NoEffectWarning, match="holds no zeros in the layers that were asked for"):
        fitting("ltp:1x1@60%", start=tmp_path / "dense.pt")


def test_a_run_that_was_stopped_goes_on(fitting, samples: Samples, tmp_path: Path, monkeypatch) -> None:
    """At any stage, to the same file and the same trail."""
    methods = ("block_ltp:4x1@60%", "lsq+:w8a8")
    straight = codes(fitting(*methods))
    trail = Trail.from_json(json.loads((tmp_path / "x.trail/trail.json").read_bytes()))
    monkeypatch.setattr("shoestring.train.loop.SAVE_SECONDS", 0.0)

    class Power(Exception):
        pass

    class Cut(Noise):
        fuse = 0

        def epoch(self, *given: int, **more: int) -> Iterator[Any]:
            for batch in super().epoch(*given, **more):
                Cut.fuse -= 1
                if not Cut.fuse:
                    raise Power
                yield batch

    data = replace(samples, training=Cut(), provenance={"sha256": "0" * 64, "training": 12})
    for fuse in (4, 5):
        Cut.fuse = fuse
        with pytest.raises(Power):
            fitting(*methods, samples=data)
    Cut.fuse = 0
    done = fitting(*methods, samples=data)
    assert all(np.array_equal(value, straight[name]) for name, value in codes(done).items())
    again = Trail.from_json(json.loads((tmp_path / "x.trail/trail.json").read_bytes()))
    assert again.layers == trail.layers
    for one, other in zip(again.points, trail.points, strict=True):  # judged in another layout of memory, perhaps
        assert (one.progress, one.zeros, one.file) == (other.progress, other.zeros, other.file)
        assert one.quality == pytest.approx(other.quality, abs=1e-3)


def test_an_onnx_file_cannot_learn(fitting, onnx_files) -> None:
    theirs = resolve(str(onnx_files["float"]))
    for methods in (("ltp",), ("magnitude:4x1@50%",), ("structured:n=2:all",)):
        with pytest.raises(
            BadInput, match=r"works on torch modules, and an .onnx file has none; .* magnitude --epochs 0"
        ):
            fitting(*methods, original=theirs)
    assert fitting("magnitude:4x1@50%", original=theirs, recipe=None).trail is None


def test_an_onnx_file_is_decomposed(fitting, onnx_files, tmp_path: Path) -> None:
    """Without training, as the torch model is, and then pruned; the file passes the parity gate."""
    theirs = resolve(str(onnx_files["float"]))
    names = [layer.name for layer in theirs.layers if "depthwise" in layer.name]
    done = fitting("structured:n=2:all", "magnitude:4x1@50%:uniform", original=theirs, recipe=None)
    found = codes(done)
    for name in names:
        assert found[name].shape == (16, 1, 2, 2)
        assert found[f"{name}_pool"].shape == (16, 1, 2, 2)
        assert np.ptp(found[f"{name}_pool"]) == 0
    (project,) = (name for name in found if "blocks.0" in name and "project" in name)
    assert FOUR.sparsity(found[project]) == pytest.approx(0.5)
    assert done.parity.first_divergence is None
    told = shoe.read(done.path).provenance["methods"]
    assert [part.partition(":")[0] for part in told[names[0]].split(", ")] == ["structured", "int8"]
    notes = " ".join(done.receipt.notes)
    assert "Structure: 2 layers are a sum and a smaller layer" in notes
    assert "which moved the outputs by" in notes
    assert "US 2021/0374537" in notes
    assert "Reconstructed without training: 6 layers" in notes
    assert not (tmp_path / "x.structured.json").exists()


def test_a_file_in_which_nothing_is_decomposed(fitting, onnx_files) -> None:
    theirs = resolve(str(onnx_files["float"]))
    with pytest.warns(NoEffectWarning, match="structured changed no layer"):
        done = fitting("structured:n=3:all", original=theirs, recipe=None)
    assert "Structure:" not in " ".join(done.receipt.notes)


def test_layers_of_a_file_that_cannot_be_decomposed(fitting, onnx_files, monkeypatch) -> None:
    """They stay, and the receipt says why."""
    theirs = resolve(str(onnx_files["float"]))
    first, second = (layer.name for layer in theirs.layers if "depthwise" in layer.name)
    for room in ("structure", "decomposing"):
        monkeypatch.setattr(f"shoestring.pipeline.{room}.hindrances", lambda _: {second: "they are blue"})
    done = fitting("structured:n=2:all", original=theirs, recipe=None)
    assert codes(done)[first].shape == (16, 1, 2, 2)
    assert codes(done)[second].shape == (16, 1, 3, 3)
    assert f"Not decomposed, for they are blue: {second}." in done.receipt.notes


def test_nothing_to_train_on(fitting, samples: Samples) -> None:
    with pytest.raises(BadInput, match="there is nothing to train on"):
        fitting("ltp", samples=samples)


def test_channels_first(fitting, original: Original, monkeypatch, device) -> None:
    """Cut, snapped to the measured staircase, trained; then zeros, then bits; fewer multiplications in the receipt."""
    monkeypatch.setattr("shoestring.pipeline.shaping.multiple", lambda _: 4)
    done = fitting("lsq+:w8a8", "magnitude:4x1@50%:uniform", "channels:50%:uniform")
    found, before = codes(done), weights(original.graph)
    assert found["stem.0"].shape[0] == 8
    assert before["stem.0"].shape[0] == 16
    assert found["classifier"].shape == (10, 8)
    assert FOUR.sparsity(found[PROJECTS[0]]) == pytest.approx(0.5)
    told = shoe.read(done.path).provenance["methods"][PROJECTS[0]]
    assert [part.partition(":")[0] for part in told.split(", ")] == ["channels", "magnitude", "lsq+"]
    assert ":by4" in told
    notes = " ".join(done.receipt.notes)
    assert "Channels: 40 of 90 outputs are gone, in 5 layers" in notes
    (over,) = (line for line in done.receipt.speedup if line.against == "int8")
    assert over.realisation is not None
    again = case_of(str(done.path), device)
    assert again.macs[1] < 0.6 * again.macs[0]
    alone = fitting("channels:50%:uniform:by8")
    assert codes(alone)["stem.0"].shape[0] == 8


DEPTHWISE = ("blocks.0.depthwise.0", "blocks.1.depthwise.0")


@pytest.mark.parametrize("more", [(), ("magnitude:4x1@50%:uniform",), ("lsq+:w8a8",), ("lsq+:w4a4",)])
def test_kernels_are_decomposed(more: tuple[str, ...], fitting, tmp_path: Path) -> None:
    """Drawn to structure, put there, trained on, and a small layer behind sums in the file; then zeros, then bits."""
    done = fitting("structured:n=2:all:stem.0=n2:blocks.?.project.0=c0.5", *more)
    found = codes(done)
    assert found["stem.0"].shape == (16, 3, 2, 2)
    assert found[DEPTHWISE[0]].shape == (16, 1, 2, 2)
    assert found[PROJECTS[0]].shape == (16, 8, 1, 1)
    for name in (*DEPTHWISE, "stem.0"):
        sums = found[f"{name}_pool"]
        assert sums.shape[1:] == (1, 2, 2)
        assert not np.ptp(sums.reshape(len(sums), -1), axis=1).any()  # a channel's are equal, whatever its step
    if any("magnitude" in method for method in more):
        assert FOUR.sparsity(found[PROJECTS[0]]) == pytest.approx(0.5)
    told = shoe.read(done.path).provenance
    assert told["epochs"] == pytest.approx(4)
    parts = [part.partition(":")[0] for part in told["methods"][PROJECTS[0]].split(", ")]
    bits = [] if "lsq+" in " ".join(more) else ["int8"]
    assert parts == ["structured", *(method.partition(":")[0] for method in more), *bits]
    notes = " ".join(done.receipt.notes)
    if "Reconstructed" in notes:  # five sums are left alone
        assert "Reconstructed without training: 6 layers" in notes
    assert "Structure: 5 layers are a sum and a smaller layer" in notes
    assert "after training drew it there from" in notes
    assert "US 2021/0374537" in notes
    log = json.loads((tmp_path / "x.structured.json").read_bytes())
    assert set(log["residuals"]["0.0000"]) == {"stem.0", *DEPTHWISE, *PROJECTS}
    assert list(log["residuals"]) == sorted(log["residuals"])


def test_without_training_what_is_left_follows_the_original(fitting, tmp_path: Path) -> None:
    """Projected, then fitted layer by layer to what the original writes, though layers have other shapes."""
    raw = fitting("structured:n=2:all", recipe=None, reconstruct=False)
    fitted = fitting("structured:n=2:all", recipe=None)
    assert codes(fitted)[DEPTHWISE[0]].shape == (16, 1, 2, 2)
    for done in (raw, fitted):
        assert not (tmp_path / "x.structured.json").exists()
        assert "No training was done" in " ".join(done.receipt.notes)
    both = [done.receipt.quality for done in (raw, fitted)]
    assert all(both)
    assert both[1].divergence < 0.8 * both[0].divergence  # type: ignore[union-attr]
    pruned = fitting("structured:n=2:all", "magnitude:4x1@50%:uniform", recipe=None)
    assert FOUR.sparsity(codes(pruned)[PROJECTS[0]]) == pytest.approx(0.5)
    assert codes(pruned)[DEPTHWISE[0]].shape == (16, 1, 2, 2)


def test_kernels_that_would_not_be_faster_stay(fitting, monkeypatch, original: Original) -> None:
    seen = {}

    def paying(network, settings, device, progress):
        seen["runtime"] = device.runtime
        return {**settings, DEPTHWISE[1]: replace(settings[DEPTHWISE[1]], kept=Kept())}

    monkeypatch.setattr("shoestring.pipeline.shaping.paying", paying)
    done = fitting("structured:n=2", recipe=None)
    found = codes(done)
    told = f"Not decomposed, for they would not be faster on onnxruntime: {DEPTHWISE[1]}."
    assert told in done.receipt.notes
    assert seen == {"runtime": "onnxruntime"}
    assert found[DEPTHWISE[0]].shape == (16, 1, 2, 2)
    assert found[DEPTHWISE[1]].shape == (16, 1, 3, 3)


def test_channels_then_kernels(fitting, monkeypatch) -> None:
    monkeypatch.setattr("shoestring.pipeline.shaping.multiple", lambda _: 4)
    done = fitting("structured:n=2:all", "channels:50%:uniform")
    assert codes(done)[DEPTHWISE[0]].shape == (8, 1, 2, 2)
    told = shoe.read(done.path).provenance["methods"][DEPTHWISE[0]]
    assert [part.partition(":")[0] for part in told.split(", ")] == ["channels", "structured", "int8"]


def test_two_processes_train_every_method(tmp_path: Path) -> None:
    """Who only helps goes on with the next method, where the first would otherwise wait for it."""
    program = Path(__file__).with_name("shaping_on.py")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    environment["PYTHONPATH"] = os.pathsep.join([str(program.parents[2] / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, *launcher, str(program), str(tmp_path), "magnitude:4x1@50%", "lsq+:w4a8"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made-1.onnx").read_bytes() == b""
    graph = onnx.load(tmp_path / "made-0.onnx")
    assert violations(graph) == []
    assert FOUR.sparsity(weights(graph)["2"]) >= 0.5
