"""A deadline kept by a real file: nets, chains, early exits. Times that matter are slept, so load fails nothing."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import shoe, signals
from shoestring.deploy.adaptive import Adaptive
from shoestring.deploy.check import trust
from shoestring.deploy.session import load
from shoestring.deploy.signals import Signals

SPEC = {"kind": "image", "resize": 8, "interpolation": "bilinear", "crop": [8, 8], "mean": [127] * 3, "std": [128] * 3}
PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (10, 12, 3), np.uint8)
LONG = 0.3  # seconds that a slow stage takes; deadlines are a third of it
# The three networks are equally quick: the file says that they are not.
MEASURED = tuple({"runtime": "onnxruntime", "latency_ms": ms} for ms in (1.0, 2.0, 4.0))
SURE = {"temperature": 1.0, "threshold": 0.0}  # of anything


class Slow:
    """A session that takes its time."""

    def __init__(self, session: Any, seconds: float):
        self.inputs, self.outputs, self._session, self.seconds = session.inputs, session.outputs, session, seconds

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        time.sleep(self.seconds)
        return self._session(*inputs)


@pytest.fixture
def ladder(classifier: ModelProto, tmp_path: Path) -> Callable[..., Adaptive]:
    """Three points: the classifier's scores times 1, 2 and 3. `chained`: each hands the input on to the next."""

    def make(deadline_ms: float, *, chained: bool = False, measured: Any = MEASURED, sure: Any = None) -> Adaptive:
        points, members = [], {}
        for index in range(3):
            model = ModelProto()
            model.CopyFrom(classifier)
            model.graph.node[-1].attribute.append(helper.make_attribute("alpha", index + 1.0))
            if chained and index < 2:
                model.graph.node.append(helper.make_node("Identity", ["x"], ["z"], name="hand"))
                model.graph.output.append(helper.make_tensor_value_info("z", 1, [1, 3, 8, 8]))
            if chained and index:
                for node in model.graph.node:
                    node.input[:] = ["z" if name == "x" else name for name in node.input]
                    node.output[:] = ["zz" if name == "z" else name for name in node.output]
                model.graph.input[0].name = "z"
                if index == 1:
                    model.graph.output[1].name = "zz"
            if chained and index == 2:
                model.graph.input[0].name = "zz"
                for node in model.graph.node:
                    node.input[:] = ["zz" if name == "z" else name for name in node.input]
            members[f"{index}.onnx"] = model.SerializeToString()
            trust(members[f"{index}.onnx"])
            after = index - 1 if chained and index else None
            points.append(Point(f"{index}.onnx", measured=measured[index], after=after))
        if sure is not None:
            points[sure] = replace(points[sure], confidence=SURE)
        shoe.write(tmp_path / "x.shoe", shoe.Contents(SPEC, ("a", "b", "c", "d", "e"), tuple(points), members))
        return load(tmp_path / "x.shoe", runtime="onnxruntime").adaptive(deadline_ms)

    return make


def pretend(adaptive: Adaptive, ms: tuple[float, float, float], point: int, net: bool) -> None:
    """The points take so many ms (a chain's: each on top of the one before), and the governor asks for `point`."""
    adaptive(PHOTOGRAPH)  # makes the governor
    adaptive.network_ms = list(ms)
    for index, stage in adaptive.stages.items():
        before = ms[index - 1] if len(stage.path) > 1 else 0.0
        adaptive.stages[index] = replace(stage, session=Slow(stage.session, (ms[index] - before) / 1000))

    def choose(spent_ms: float = 0.0) -> int:
        adaptive.governor.net = net
        return point

    adaptive.governor.choose = choose  # type: ignore[method-assign]
    adaptive.governor.likely_ms = lambda of: ms[of] / 10  # type: ignore[method-assign]  # in vain


def scale(adaptive: Adaptive, outputs: np.ndarray) -> float:
    """Which multiple of the classifier's scores this is."""
    offset = np.arange(5)
    whole = load(adaptive.artifact.file, runtime="onnxruntime", point=0).outputs(PHOTOGRAPH)
    return float(np.median((outputs - offset) / (whole - offset)))


@pytest.mark.parametrize("chained", [False, True])
def test_with_time_enough_it_climbs_to_the_richest(ladder: Callable[..., Adaptive], chained: bool) -> None:
    adaptive = ladder(10_000, chained=chained)
    seen = []
    for _ in range(60):
        outputs = adaptive.outputs(PHOTOGRAPH)
        assert adaptive.last is not None
        seen.append(adaptive.last.point)
        assert scale(adaptive, outputs) == pytest.approx(adaptive.last.point + 1, abs=0.01)
    assert (seen[0], seen[-1]) == (0, 2)
    assert not adaptive.last.missed
    assert 0 < adaptive.last.ms < 10_000
    assert adaptive.last.at_s > 0
    assert adaptive(PHOTOGRAPH, top=2)[0].label in "abcde"
    assert len(adaptive(PHOTOGRAPH, top=2)) == 2


def test_with_no_time_at_all_it_stays_cheap_and_says_so(ladder: Callable[..., Adaptive]) -> None:
    adaptive = ladder(1e-3)
    for _ in range(30):
        adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.missed) == (0, True)


@pytest.mark.parametrize("chained", [False, True])
def test_over_a_net_the_answer_is_there_when_time_is_up(ladder: Callable[..., Adaptive], chained: bool) -> None:
    adaptive = ladder(1000 * LONG / 3, chained=chained)
    pretend(adaptive, (1.0, 1000 * LONG, 2000 * LONG), 1, net=True)
    begun = time.perf_counter()
    outputs = adaptive.outputs(PHOTOGRAPH)
    assert time.perf_counter() - begun < LONG
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.given_up) == (0, True)
    assert scale(adaptive, outputs) == pytest.approx(1.0, abs=0.01)
    # What was given up still runs: the next frame gets the cheapest point alone.
    outputs = adaptive.outputs(PHOTOGRAPH)
    assert (adaptive.last.point, adaptive.last.given_up) == (0, False)
    time.sleep(LONG)
    adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last.given_up


@pytest.mark.parametrize("chained", [False, True])
def test_over_a_net_the_richer_answer_counts_when_it_comes(ladder: Callable[..., Adaptive], chained: bool) -> None:
    adaptive = ladder(10_000, chained=chained)
    pretend(adaptive, (1.0, 5.0, 10.0), 2, net=True)
    assert scale(adaptive, adaptive.outputs(PHOTOGRAPH)) == pytest.approx(3.0, abs=0.01)
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.given_up, adaptive.last.exited) == (2, False, False)


def test_what_would_not_be_in_time_is_not_begun(ladder: Callable[..., Adaptive]) -> None:
    adaptive = ladder(1000 * LONG / 3)
    pretend(adaptive, (1.0, 1000 * LONG, 2000 * LONG), 1, net=True)
    assert adaptive.governor is not None
    adaptive.governor.likely_ms = lambda of: 1000 * LONG  # type: ignore[method-assign]
    begun = time.perf_counter()
    adaptive.outputs(PHOTOGRAPH)
    assert time.perf_counter() - begun < LONG / 3
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.given_up) == (0, False)


@pytest.mark.parametrize("chained", [False, True])
def test_an_answer_that_is_sure_ends_the_frame(ladder: Callable[..., Adaptive], chained: bool) -> None:
    for sure, point in ((0, 0), (1, 1 if chained else 2)):  # over a net only the cheapest and the richest are run
        adaptive = ladder(10_000, chained=chained, sure=sure)
        pretend(adaptive, (1.0, 5.0, 10.0), 2, net=True)
        assert scale(adaptive, adaptive.outputs(PHOTOGRAPH)) == pytest.approx(point + 1, abs=0.01)
        assert adaptive.last is not None
        assert (adaptive.last.point, adaptive.last.exited) == (point, point < 2)


def test_what_the_file_says_corrects_a_few_runs(ladder: Callable[..., Adaptive]) -> None:
    """Ten times and a hundred times the first: no short run contradicts that by more than a quarter."""
    told = tuple({"runtime": "onnxruntime", "latency_ms": ms} for ms in (1.0, 10.0, 100.0))
    ms = ladder(10_000, measured=told).network_ms
    assert 10 / 1.6 < ms[1] / ms[0] < 10 * 1.6
    assert 10 / 1.6 < ms[2] / ms[1] < 10 * 1.6
    for other in ({"runtime": "openvino", "latency_ms": 9.0}, {"latency_ms": "9"}, {}):
        ms = ladder(10_000, measured=(other, *told[1:])).network_ms
        assert ms[2] < 20 * ms[0]


def test_quality_of_the_file_decides_what_is_rich(ladder: Callable[..., Adaptive]) -> None:
    adaptive = ladder(
        10_000, measured=[{**own, "quality": worth} for own, worth in zip(MEASURED, (60, 80, 70), strict=True)]
    )
    for _ in range(60):
        adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last is not None
    assert adaptive.last.point == 1


def test_heat_caps_the_ladder(ladder: Callable[..., Adaptive], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "read", lambda: Signals(margin_c=-1.0))
    adaptive = ladder(10_000)
    for _ in range(60):
        adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last is not None
    assert adaptive.last.point == 0


def test_what_is_refused(ladder: Callable[..., Adaptive]) -> None:
    for deadline in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="is no time"):
            ladder(deadline)
    with pytest.raises(BadInput, match="cannot read a dict"):
        ladder(100)({})
