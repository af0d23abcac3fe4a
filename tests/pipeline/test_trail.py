"""The recorder of a pruning run, driven by hand; whole runs are in test_shaping.py."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from shoestring.compress.method import Applied
from shoestring.core.cost import Cost
from shoestring.pipeline.asked import asked
from shoestring.pipeline.costs import Prices
from shoestring.pipeline.original import Original
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.trail import NAME, POINTS, Recorder

PATH = "blocks.0.project.0"


class Some(Applied):
    """A method that has removed a share of one layer."""

    share = 0.0

    def zeros(self) -> dict[str, Tensor]:
        layer = self.model.get_submodule(PATH)
        keep = torch.ones_like(layer.weight, dtype=torch.bool)
        keep.view(-1)[: round(self.share * keep.numel())] = False
        return {PATH: keep}


@pytest.fixture
def recorder(original: Original, samples: Samples, tmp_path: Path) -> Recorder:
    step = asked(original, ("magnitude:4x1@50%",))[0]
    prices = Prices({PATH: Cost((0.0, 1.0), (1.0, 0.0))}, 5.0)
    return Recorder(original, original, samples, step, step.settings(original), tmp_path / "x.trail", prices)


def test_ten_points_whatever_the_steps(recorder: Recorder, original: Original) -> None:
    applied = Some(original.model)
    watch = recorder.watching(applied)
    for number in range(1, 78):
        applied.share = number / 100
        watch(number / 77)
    trail = recorder.trail()
    assert trail is not None
    assert [point.progress for point in trail.points] == pytest.approx([i / POINTS for i in range(1, 11)], abs=1 / 77)
    for point, share in zip(trail.points, trail.layers[PATH], strict=True):
        assert share == pytest.approx(round(point.progress * 77) / 100, abs=0.01)
        assert point.zeros == pytest.approx(share)
        assert point.ms == pytest.approx(5 - share)
    assert trail.points[0].quality > trail.points[-1].quality
    state = load_file(recorder.folder / trail.points[-1].file)
    assert float((state[f"{PATH}.weight"] == 0).float().mean()) == pytest.approx(0.77, abs=0.01)
    assert set(state) == set(original.model.state_dict())
    assert not list(recorder.folder.glob(".*"))  # nothing half written


def test_few_steps_are_few_points(recorder: Recorder, original: Original) -> None:
    watch = recorder.watching(Some(original.model))
    for number in (1, 2, 3):
        watch(number / 3)
    assert [point.number for point in recorder.points] == [1, 2, 3]


def test_nothing_was_recorded(recorder: Recorder) -> None:
    assert recorder.trail() is None


def test_an_untouched_network_keeps_all_probability(recorder: Recorder, original: Original) -> None:
    recorder.watching(Some(original.model))(0.5)
    assert recorder.points[0].quality == pytest.approx(100, abs=1e-3)


def test_points_of_another_run_are_not_ours(recorder: Recorder, original: Original) -> None:
    recorder.watching(Some(original.model))(0.3)
    told = json.loads((recorder.folder / NAME).read_bytes())
    for method, points in ((told["method"], 2), ("ltp:1x1@80%:t0.05", 1)):
        (recorder.folder / NAME).write_text(json.dumps({**told, "method": method}))
        recorder.points, recorder.shares = [], []
        recorder.watching(Some(original.model))(0.5)
        assert len(recorder.points) == points
    (recorder.folder / NAME).write_text("{")
    recorder.points, recorder.shares = [], []
    recorder.watching(Some(original.model))(0.9)
    assert len(recorder.points) == 1
