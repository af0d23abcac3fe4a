"""The profile of a graph whose times are made by hand, in every runtime's way of naming nodes, and really measured."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.core.device import Device
from shoestring.core.profile import Operator, Profile, Roof
from shoestring.deploy.rewrite import infer
from shoestring.deploy.runtimes import TensorSpec
from shoestring.deploy.traffic import traffic
from shoestring.pipeline.device import here
from shoestring.pipeline.profile import OWN, profile

ROOF = Roof(80.0, 12.0, "by hand")
STEM, PROJECT = 16 * 16 * 16 * 27, 16 * 16 * 16 * 16


class Step(NamedTuple):
    """What the engine says of a step."""

    name: str
    label: str
    multiplies: int
    bytes: int


class Session:
    """Calls do nothing; the profile is what it was given."""

    def __init__(self, times: Mapping[str, float], batch: int):
        self.times = times
        self.inputs = (TensorSpec("x", (batch, 3, 32, 32), np.dtype(np.float32)),)

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        assert x.shape == self.inputs[0].shape
        return []

    def profile(self, *inputs: np.ndarray, runs: int) -> Mapping[str, float]:
        assert [x.shape for x in inputs] == [spec.shape for spec in self.inputs]
        return self.times


@pytest.fixture
def profiled(timed, device: Device, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`profiled(model, times, steps=None, batch=1)`: on a runtime that reports these times, a run taking 4 ms."""
    timed({"run": 4.0})
    monkeypatch.setattr("shoestring.pipeline.profile.roof", lambda *_: ROOF)

    def make(model: ModelProto, times: Mapping[str, float], steps: Any = None, batch: int = 1) -> Profile:
        session = Session(times, batch)
        if steps is not None:
            session.steps = lambda: steps  # type: ignore[attr-defined]
        runtime = SimpleNamespace(open=lambda *_, **__: session)
        monkeypatch.setattr("shoestring.pipeline.profile.runtimes", SimpleNamespace(get=lambda name: runtime))
        return profile("x.onnx", model, device, batch)

    return make


def rows(told: Profile) -> dict[str, Operator]:
    return {item.node: item for item in told.operators}


def test_names_that_a_runtime_appended_are_taken_away(variants: Mapping[str, ModelProto], profiled) -> None:
    """As ONNX Runtime calls fused nodes in fp32 and in 8 bits, and OpenVINO any."""
    times = {"stem.0/clip_nchwc": 0.5, "blocks.0.project.0_token_8": 2.0, "blocks.1.project.0/WithoutBiases": 1.0}
    told = profiled(variants["fp32"], {**times, "x_abcd_acdb_stem.0/WithoutBiases": 0.25, "Transpose": 0.125})
    assert told.ms == pytest.approx(4.0, rel=1e-3)
    assert (told.file, told.roof) == ("x.onnx", ROOF)
    found = rows(told)
    assert list(found) == [
        "blocks.0.project.0",
        "blocks.1.project.0",
        "stem.0",
        "x_abcd_acdb_stem.0/WithoutBiases",
        "Transpose",
    ]
    moved = traffic(infer(variants["fp32"]))["stem.0"]
    assert found["stem.0"] == Operator("stem.0", "conv 3x3", 0.5, STEM, STEM, moved)
    assert (found["blocks.0.project.0"].label, found["blocks.0.project.0"].dense) == ("conv 1x1", PROJECT)
    assert found["Transpose"] == Operator("Transpose", OWN, 0.125)


def test_nodes_of_one_layer_are_added_up(variants: Mapping[str, ModelProto], profiled) -> None:
    told = profiled(variants["fp32"], {"stem.0": 0.5, "stem.0_nchwc": 0.25, "blocks.1.depthwise.0": 1.0})
    assert [(item.node, item.ms, item.label) for item in told.operators] == [
        ("blocks.1.depthwise.0", 1.0, "depthwise 3x3"),
        ("stem.0", 0.75, "conv 3x3"),
    ]


def test_in_8_bits_a_quantiser_has_a_row_of_its_own(variants: Mapping[str, ModelProto], profiled) -> None:
    model = variants["int8"]
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    found = rows(profiled(model, {first.name: 0.5, "stem.0_token_1": 1.0}))
    assert (found[first.name].label, found[first.name].executed) == ("QuantizeLinear", 0)
    codes = 3 * 32 * 32 + 16 * 27 + 16 * 16 * 16  # picture, weights, features; it has no bias
    assert found["stem.0"].bytes == codes


def test_what_the_engine_executes(variants: Mapping[str, ModelProto], profiled) -> None:
    """Its own words, but for what the dense layer would cost; steps of one node are added up."""
    steps = (
        Step("stem.0", "conv 3x3 4x1", 1000, 300),
        Step("stem.0", "table", 0, 20),
        Step("made up", "copy", 0, 10),
    )
    found = rows(profiled(variants["fp32"], {"stem.0": 1.0, "made up": 0.5}, steps, batch=2))
    assert found["stem.0"] == Operator("stem.0", "conv 3x3 4x1", 1.0, 2000, 2 * STEM, 640)
    assert found["made up"] == Operator("made up", "copy", 0.5, 0, 0, 20)


def test_a_batch_costs_as_much_more(variants: Mapping[str, ModelProto], profiled) -> None:
    one, four = (rows(profiled(variants["fp32"], {"stem.0": 1.0}, batch=batch))["stem.0"] for batch in (1, 4))
    assert (four.executed, four.dense) == (4 * one.executed, 4 * one.dense)
    weights = 4 * 16 * 27
    assert four.bytes - weights == 4 * (one.bytes - weights)


@pytest.mark.parametrize(
    ("ms", "said"), [(1.0, "A run takes far longer"), (4.0, None), (9.0, "The operators take far longer")]
)
def test_times_that_do_not_fit_get_a_word(ms: float, said: str | None, variants, profiled) -> None:
    notes = profiled(variants["fp32"], {"stem.0": ms}).notes
    assert len(notes) == (said is not None)
    assert all(note.startswith(str(said)) for note in notes)


def test_nodes_without_names_are_told_apart(variants: Mapping[str, ModelProto], device: Device, brief) -> None:
    model = ModelProto()
    model.CopyFrom(variants["fp32"])
    for node in model.graph.node:
        node.name = ""
    told = profile("x.onnx", model, device, seconds=1)
    assert sum(item.label.startswith(("conv", "depthwise")) for item in told.operators) == 5
    assert sum(item.dense for item in told.operators) == sum(item.executed for item in told.operators) > 0


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_really_measured(runtime: str, precision: str, variants: Mapping[str, ModelProto], brief) -> None:
    stages: list[tuple[str, float]] = []
    told = profile("x.onnx", variants[precision], here(runtime), 1, 1.0, lambda *stage: stages.append(stage))
    assert told.ms > 0
    found = rows(told)
    assert {"stem.0", "blocks.0.project.0"} <= set(found)
    assert found["stem.0"].dense == found["stem.0"].executed == STEM
    assert [item.ms for item in told.operators] == sorted((item.ms for item in told.operators), reverse=True)
    assert (told.device["runtime"], told.device["batch"]) == (runtime, 1)
    assert stages[-1] == ("timing", 1.0)
    assert {stage for stage, _ in stages} == {"measuring the roof", "timing"}
