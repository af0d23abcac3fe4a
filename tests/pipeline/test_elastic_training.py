"""Elastic networks in training, by themselves and with methods beside: what goes together, and going on."""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shoestring.compress.lsq.activations import ActivationQuantiser
from shoestring.compress.slim.space import Shape
from shoestring.core.blocks import Blocks
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput
from shoestring.core.pattern import BlockPattern
from shoestring.pipeline import elastic_training
from shoestring.pipeline.costs import Prices
from shoestring.pipeline.elastic_training import Elastic, company, multiple, trained
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

# What the program of several processes trains on; pytest's folders are no packages to import from.
Noise: Any = runpy.run_path(str(Path(__file__).with_name("recovering.py")), run_name="program")["Noise"]
PROGRAM = Path(__file__).with_name("stretching.py")
PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")
HALF = Shape(0.5)


def request(*methods: str, epochs: float = 0, out: Path = Path("x.shoe")) -> Request:
    recipe = Recipe(epochs=epochs, batch=4, lr=0.02) if epochs else None
    return Request(out, ladder=3, slim="w=0.5,1:d=1:r=1", methods=methods, recipe=recipe)


def quiet(stage: str, share: float) -> None:
    pass


@pytest.fixture
def training(samples: Samples) -> Samples:
    return replace(samples, training=Noise(), provenance={"sha256": "0" * 64, "training": 12})


def run(original: Original, samples: Samples, asked: Request) -> Elastic:
    found = trained(original, samples, asked, quiet)
    assert found is not None
    return found


def test_an_onnx_file_cannot_be_elastic(original: Original, samples: Samples) -> None:
    with pytest.raises(BadInput, match="--ladder works on torch modules"):
        trained(replace(original, model=None), samples, request(), quiet)


def test_inputs_that_cannot_be_made_smaller(original: Original, samples: Samples) -> None:
    with pytest.raises(BadInput, match=r"^slim: these inputs cannot be made smaller; leave r= out"):
        trained(original, samples, replace(request(), slim="w=0.5,1:r=0.5"), quiet)
    found = run(original, samples, replace(request(), slim="w=0.5,1:d=1"))
    assert found.slimming.views.space.side == (1.0,)
    assert (found.methods, found.widths, found.pruned) == (("slim",), {}, None)


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("int8",), "--ladder: calibrates 8 bits by itself; leave int8 out"),
        (("channels:50%",), r"--ladder: takes channels and blocks away by itself .*; leave channels out"),
        (("structured",), r"--ladder: takes channels and blocks away by itself .*; leave structured out"),
        (("magnitude:permute",), "--ladder: puts channels in the order of what they are worth; leave permute out"),
        (("magnitude", "block_ltp"), "magnitude and block_ltp cannot be combined"),
        (("lsq", "lsq+"), "lsq and lsq\\+ cannot be combined"),
        (("what",), "unknown method 'what'"),
    ],
)
def test_what_does_not_go_together(original: Original, samples: Samples, methods: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match=f"^(--method: )?{said}"):
        trained(original, samples, request(*methods), quiet)


def test_widths_suit_the_blocks(original: Original) -> None:
    def of(method: str) -> int:
        step = company(original, (method,)).zeros
        assert step is not None
        return multiple(step.settings(original))

    assert multiple({}) == of("magnitude:4x1@50%") == of("magnitude:2:4") == of("ltp") == 8
    assert of("magnitude:16x1@50%") == 16
    assert of("magnitude:3x2@50%") == 24
    assert of("magnitude:4x1@50%:blocks.0.*=dense") == 8


@pytest.mark.parametrize("method", ["magnitude:4x1@50%", "magnitude:2:4", "block_ltp:4x1@50%", "ltp:1x1@50%"])
def test_smaller_networks_have_the_zeros_of_the_large_one(
    original: Original, training: Samples, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The masked weights sliced by hand, and what they compute in torch, against the graph that is exported."""
    cost = Cost((0.0, 0.5, 0.95), (1.0, 0.5, 0.1))
    monkeypatch.setattr(elastic_training, "costs", lambda *_: Prices(dict.fromkeys(PROJECTS, cost), 4.0))
    found = run(original, training, request(method, epochs=2, out=tmp_path / "x.shoe"))
    large = dict(found.slimming.views.gm.named_modules())
    assert found.pruned is not None
    assert set(found.pruned.masks) == set(found.pruned.settings) == set(PROJECTS)
    for path, keep in found.pruned.masks.items():
        assert 0.2 < float((~keep).float().mean()) < 0.8
        assert not large[path].weight[~keep].any()
        if "4x1" in method:  # of the blocks none is cut, neither in the large one nor at half the width
            for size in (16, 8):
                blocks = keep[:size, :size].reshape(size // 4, 4, size)
                assert (blocks.all(1) | ~blocks.any(1)).all()
    small = found.slimming.at(HALF, training.calibration)
    get = dict(small.model.named_modules())
    for path in PROJECTS:
        masked = large[path].weight * found.pruned.masks[path]
        assert torch.equal(get[path].weight, masked[:8, :8])

    def normed(x: torch.Tensor, path: str) -> torch.Tensor:
        norm, own = large[path], get[path]
        return functional.batch_norm(x, own.running_mean, own.running_var, norm.weight[:8], norm.bias[:8])

    x = torch.from_numpy(np.concatenate(training.judgement))
    with torch.no_grad():
        y = functional.relu6(normed(functional.conv2d(x, large["stem.0"].weight[:8], None, 2, 1), "stem.1"))
        for block in ("blocks.0", "blocks.1"):
            deep = functional.conv2d(y, large[f"{block}.depthwise.0"].weight[:8], None, 1, 1, groups=8)
            wide = large[f"{block}.project.0"].weight * found.pruned.masks[f"{block}.project.0"]
            deep = functional.relu6(normed(deep, f"{block}.depthwise.1"))
            y = y + normed(functional.conv2d(deep, wide[:8, :8]), f"{block}.project.1")
        last = large["classifier"]
        expected = functional.linear(y.mean((2, 3)), last.weight[:, :8], last.bias).numpy()
    graph = elastic_remade(original, small.bake())
    np.testing.assert_allclose(outputs(graph, "onnxruntime", training.judgement), expected, rtol=1e-3, atol=1e-3)


def elastic_remade(original: Original, model: Any) -> Any:
    from shoestring.pipeline.original import remade

    return remade(original, model).graph


def test_masks_grow_while_the_smaller_ones_train(original: Original, training: Samples, tmp_path: Path) -> None:
    seen: list[float] = []

    def watch(stage: str, share: float) -> None:
        if stage.startswith("training"):
            seen.append(share)

    asked = request("magnitude:4x1@50%", epochs=4, out=tmp_path / "x.shoe")
    noted: list[tuple[int, float]] = []
    drawn = elastic_training.beside

    def noting(*given: Any) -> Any:
        slimming, method = drawn(*given), given[1]
        step = slimming.on_step

        def on_step(progress: float) -> None:
            step(progress)
            gone = [1 - float(keep.float().mean()) for keep in method.zeros().values()]
            noted.append((len(slimming._space.width), sum(gone)))

        slimming.on_step = on_step
        return slimming

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elastic_training, "beside", noting)
        assert trained(original, training, asked, watch) is not None
    widths, gone = zip(*noted, strict=True)
    assert list(gone) == sorted(gone)
    assert 0 < gone[0] < gone[-1]
    assert widths[-1] == 2


def test_grids_of_activations_are_each_networks_own_and_codes_are_not(
    original: Original, training: Samples, tmp_path: Path
) -> None:
    found = run(original, training, request("magnitude:4x1@50%", "lsq+:w4a4", epochs=2, out=tmp_path / "x.shoe"))
    slimming = found.slimming
    assert found.methods == ("slim", "magnitude", "lsq+")
    assert (found.widths["stem.0"], found.widths[PROJECTS[0]]) == (8, 4)
    assert found.written(PROJECTS[0]) == ("slim:w=1,0.5:d=0,1:k=0:r=1, magnitude:4x1@50%:global, lsq+:w4a4:config4:mse")
    steps: dict[str, list[float]] = {}
    grids = {}
    for shape in slimming.views.space:
        one = slimming.at(shape, training.calibration)
        one.bake()
        grids[shape] = dict(one.grids)
        for path, module in one.model.named_modules():
            if isinstance(module, ActivationQuantiser):
                steps.setdefault(path, []).append(module.step.item())
    assert max(map(len, steps.values())) == 4
    inside = [own for path, own in steps.items() if not path.startswith("x_")]  # all networks see the same input
    assert all(len(set(own)) == len(own) for own in inside)
    wide = grids[slimming.views.space.largest]
    assert found.pruned is not None
    for shape, own in grids.items():
        parts = slimming.views.at(shape).parts
        for name, grid in own.items():
            part = parts[f"{name}.weight"]
            np.testing.assert_array_equal(grid.codes, wide[name].codes[part], name)
            if name in PROJECTS:
                assert not grid.codes[~found.pruned.masks[name].numpy()[part]].any()
    # A batch norm goes into a point's own scales: those differ.
    narrow = grids[HALF]["stem.0"].scales
    assert not np.array_equal(narrow, wide["stem.0"].scales[:8])


class Power(Exception):
    pass


class Cut(Noise):  # type: ignore[misc]  # of a program
    """The power fails after `batches` of them, wherever that is."""

    left = 1

    def epoch(self, number: int, batch: int, start: int = 0, *rest: int, **more: int) -> Iterator[Any]:
        for inputs in super().epoch(number, batch, start, *rest, **more):
            if self.left == 0:
                raise Power
            self.left -= 1
            yield inputs


@pytest.mark.parametrize("batches", [2, 8], ids=["zeros", "bits"])
def test_a_training_that_was_killed_goes_on(
    original: Original, training: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """In either stage, and gives what it would have given; though what is made before training may come out a last bit
    away the second time."""
    methods = ("magnitude:4x1@50%", "lsq+:w4a4")
    straight = run(original, training, request(*methods, epochs=4, out=tmp_path / "a.shoe"))
    asked = request(*methods, epochs=4, out=tmp_path / "b.shoe")
    cut = Cut()
    cut.left = batches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoestring.train.loop.SAVE_SECONDS", 0.0)
        with pytest.raises(Power):
            trained(original, replace(training, training=cut), asked, quiet)
    made = elastic_training.Views

    def moved(*args: Any) -> Any:
        views = made(*args)
        next(views.gm.parameters()).data.mul_(1 + 1e-6)
        return views

    monkeypatch.setattr(elastic_training, "Views", moved)
    resumed = run(original, training, asked)
    theirs, ours = (one.slimming.model.state_dict() for one in (straight, resumed))
    assert theirs.keys() == ours.keys()
    assert [name for name, value in theirs.items() if not torch.equal(value, ours[name])] == []


def test_each_stage_has_its_part_of_the_epochs(original: Original, training: Samples, tmp_path: Path) -> None:
    seen: list[tuple[str, float, float]] = []
    follow = elastic_training.follow

    def noted(original: Any, student: Any, applied: Any, samples: Any, recipe: Recipe, place: Any, *rest: Any) -> bool:
        seen.append((place.folder.name, recipe.epochs, recipe.lr))
        return follow(original, student, applied, samples, recipe, place, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elastic_training, "follow", noted)
        run(original, training, request("magnitude", "lsq:w8a8", epochs=2, out=tmp_path / "x.shoe"))
        run(original, training, request("magnitude", epochs=2, out=tmp_path / "y.shoe"))
    assert seen == [("slim", 1.0, 0.02), ("lsq", 1.0, pytest.approx(0.002)), ("slim", 2.0, 0.02)]


def test_without_training_zeros_go_in_one_shot(original: Original, samples: Samples) -> None:
    found = run(original, samples, request("magnitude:4x1@50%:uniform"))
    weight = found.slimming.views.gm.get_parameter(f"{PROJECTS[0]}.weight")
    assert float((weight == 0).float().mean()) == 0.5
    assert found.pruned is not None
    assert found.pruned.epochs == 0
    assert Blocks(BlockPattern(4, 1), 50) == found.pruned.settings[PROJECTS[0]].blocks


def test_a_process_that_only_helps_takes_part_in_both(
    original: Original, training: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def helped(*given: Any) -> bool:
        called.append(given[5].folder.name)
        return False

    monkeypatch.setattr(elastic_training, "follow", helped)
    assert trained(original, training, request("lsq+:w4a4", epochs=1), quiet) is None
    assert trained(original, training, request(epochs=1), quiet) is None
    assert called == ["slim", "lsq+", "slim"]
    assert isinstance(original.model, nn.Module)


def test_two_processes(tmp_path: Path) -> None:
    """Each draws smaller networks of its own; masks, weights and the grids of all networks stay equal."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    environment["PYTHONPATH"] = os.pathsep.join([str(PROGRAM.parents[2] / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, *launcher, str(PROGRAM), str(tmp_path), "magnitude:4x1@50%", "lsq+:w4a4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (first["leads"], second["leads"]) == (True, False)
    ours, theirs = first["state"], second["state"]
    differ = {name.rpartition(".")[2] for name, value in ours.items() if not torch.equal(value, theirs[name])}
    assert differ <= {"running_mean", "running_var"}  # of each process's part of the batches
    assert any(name.startswith("own.") for name in ours)
