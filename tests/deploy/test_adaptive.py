"""A deadline kept by a real file: nets, chains, early exits. Times that matter are slept, so load fails nothing."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

from shoestring.core.errors import BadInput, GivenUp
from shoestring.core.ladder import Point
from shoestring.deploy import runtimes, shoe, signals
from shoestring.deploy.adaptive import Adaptive
from shoestring.deploy.adaptive import _Frame as Frame
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
    """A session that takes its time. `stubborn`: it does not end sooner when it is given up. `keeps_time`: it ends by
    itself when its time is up."""

    def __init__(self, session: Any, seconds: float, stubborn: bool = False, keeps_time: bool = False):
        self.inputs, self.outputs, self._session, self.seconds = session.inputs, session.outputs, session, seconds
        self.stubborn, self.stop, self.threads = stubborn, threading.Event(), list[int]()
        self.keeps_time = keeps_time

    def __call__(self, *inputs: np.ndarray, within: float = math.inf, gap: float = 0.0) -> list[np.ndarray]:
        self.threads.append(threading.get_ident())
        stop = self.stop
        if self.seconds > within - gap:
            time.sleep(max(0.0, within - gap))
            raise GivenUp("slow: time is up")
        if stop.wait(self.seconds):
            raise GivenUp("slow: given up")
        return self._session(*inputs)

    def give_up(self) -> None:
        if not self.stubborn:
            self.stop.set()
            self.stop = threading.Event()


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


def pretend(
    adaptive: Adaptive,
    ms: tuple[float, float, float],
    point: int,
    net: bool,
    stubborn: bool = False,
    keeps_time: bool = False,
) -> None:
    """The points take so many ms (a chain's: each on top of the one before), and the governor asks for `point`."""
    adaptive(PHOTOGRAPH)  # makes the governor
    adaptive.network_ms = list(ms)
    for index, stage in adaptive.stages.items():
        before = ms[index - 1] if len(stage.path) > 1 else 0.0
        slow = Slow(stage.session, (ms[index] - before) / 1000, stubborn, keeps_time)
        adaptive.stages[index] = replace(stage, session=slow)

    def choose(spent_ms: float = 0.0) -> int:
        adaptive.governor.net = net
        return point

    adaptive.governor.choose = choose  # type: ignore[method-assign]
    adaptive.governor.likely_ms = lambda of, seen=None: ms[of] / 10  # type: ignore[method-assign]  # in vain


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
    for _ in range(3):  # what was given up has ended: the next frame tries again
        begun = time.perf_counter()
        outputs = adaptive.outputs(PHOTOGRAPH)
        assert time.perf_counter() - begun < LONG
        assert adaptive.last is not None
        assert (adaptive.last.point, adaptive.last.given_up) == (0, True)
        assert scale(adaptive, outputs) == pytest.approx(1.0, abs=0.01)
        assert adaptive._richer is not None
        assert isinstance(adaptive._richer.future.exception(LONG / 3), GivenUp)


@pytest.mark.parametrize("chained", [False, True])
def test_who_keeps_time_runs_here_and_ends_by_itself(ladder: Callable[..., Adaptive], chained: bool) -> None:
    """Nobody has to be woken: what is kept ready to end in is left, and there is nothing beside the next frame."""
    adaptive = ladder(1000 * LONG / 3, chained=chained)
    pretend(adaptive, (1.0, 1000 * LONG, 2000 * LONG), 1, net=True, keeps_time=True)
    for _ in range(3):
        begun = time.perf_counter()
        outputs = adaptive.outputs(PHOTOGRAPH)
        assert time.perf_counter() - begun < LONG
        assert adaptive.last is not None
        assert (adaptive.last.point, adaptive.last.given_up) == (0, True)
        assert scale(adaptive, outputs) == pytest.approx(1.0, abs=0.01)
    pretend(adaptive, (1.0, 5.0, 10.0), 2, net=True, keeps_time=True)
    adaptive.deadline_ms = 10_000
    assert scale(adaptive, adaptive.outputs(PHOTOGRAPH)) == pytest.approx(3.0, abs=0.01)
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.given_up) == (2, False)
    assert adaptive._richer is None
    for stage in adaptive.stages.values():
        assert set(stage.session.threads) <= {threading.get_ident()}  # type: ignore[attr-defined]


def test_who_ends_late_leaves_more_the_next_time(ladder: Callable[..., Adaptive]) -> None:
    """A stretch without a core that was longer than what was kept ready."""
    adaptive = ladder(1000 * LONG / 3)
    pretend(adaptive, (1.0, 1000 * LONG, 2000 * LONG), 1, net=True, keeps_time=True)
    session, told = adaptive.stages[1].session, list[float]()

    class Late(Slow):
        def __call__(self, *inputs: np.ndarray, within: float = math.inf, gap: float = 0.0) -> list[np.ndarray]:
            del inputs
            told.append(gap)
            time.sleep(max(0.0, within - gap) + 0.01)
            raise GivenUp("slow: without a core for 10 ms")

    adaptive.stages[1] = replace(adaptive.stages[1], session=Late(session, 0.0, keeps_time=True))
    for _ in range(2):
        adaptive.outputs(PHOTOGRAPH)
    assert told[0] == pytest.approx(0.004)
    assert told[1] >= 0.015


@pytest.mark.parametrize("net", [False, True])
@pytest.mark.parametrize("chained", [False, True])
def test_nothing_is_begun_beside_what_does_not_end(ladder: Callable[..., Adaptive], chained: bool, net: bool) -> None:
    """The next frame gets the cheapest point alone, whatever the governor says."""
    adaptive = ladder(1000 * LONG / 3, chained=chained)
    pretend(adaptive, (1.0, 1000 * LONG, 2000 * LONG), 1, net=True, stubborn=True)
    adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last is not None
    assert adaptive.last.given_up
    assert adaptive.governor is not None
    chosen = adaptive.governor.choose

    def choose(spent_ms: float = 0.0) -> int:
        point = chosen(spent_ms)
        adaptive.governor.net = net  # type: ignore[union-attr]
        return point

    adaptive.governor.choose = choose  # type: ignore[method-assign]
    outputs = adaptive.outputs(PHOTOGRAPH)
    assert (adaptive.last.point, adaptive.last.given_up) == (0, False)
    assert scale(adaptive, outputs) == pytest.approx(1.0, abs=0.01)
    time.sleep(LONG)
    net = True
    adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last.given_up


def test_what_has_not_begun_when_time_is_up_never_does(ladder: Callable[..., Adaptive]) -> None:
    """Whether it waits for its thread or for its pixels."""
    adaptive = ladder(1000 * LONG / 3)
    pretend(adaptive, (1.0, 1000 * LONG, 2000 * LONG), 1, net=True)
    session = adaptive.stages[1].session
    occupied = threading.Event()
    adaptive._beside.submit(occupied.wait)
    adaptive.outputs(PHOTOGRAPH)
    occupied.set()
    adaptive._beside.submit(int).result()
    assert session.threads == []  # type: ignore[attr-defined]
    frame = Frame(0.0, PHOTOGRAPH, {}, over=True)
    with pytest.raises(GivenUp):
        adaptive._step(frame, 1, None)
    assert session.threads == []  # type: ignore[attr-defined]


def test_a_frame_is_prepared_once_for_each_size() -> None:
    """Of a photograph, and of a point cloud, which has no sides but a number of points."""
    clouds = {"kind": "points", "points": 8, "centre": "mean", "scale": "sphere", "up": "y"}
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for given, specs, shapes in (
        (points, (clouds, {**clouds, "points": 4}), [(1, 8, 3), (1, 4, 3)]),
        (PHOTOGRAPH, (SPEC, {**SPEC, "crop": [4, 4]}), [(1, 3, 8, 8), (1, 3, 4, 4)]),
    ):
        frame = Frame(0.0, given, {})
        made = [frame.prepared(spec)[0] for spec in specs]
        assert [x.shape for x in made] == shapes
        assert all(frame.prepared(spec)[0] is x for spec, x in zip(specs, made, strict=True))


@pytest.mark.parametrize("net", [False, True])
def test_what_is_safe_changes_no_thread(ladder: Callable[..., Adaptive], net: bool) -> None:
    """A chain that is in time by either tail runs where it was called; over a net its later stages do not."""
    adaptive = ladder(10_000, chained=True)
    pretend(adaptive, (1.0, 2.0, 3.0), 2, net=net)
    outputs = adaptive.outputs(PHOTOGRAPH)
    assert scale(adaptive, outputs) == pytest.approx(3.0, abs=0.01)
    here = [stage.session.threads == [threading.get_ident()] for stage in adaptive.stages.values()]  # type: ignore[attr-defined]
    assert here == [True, not net, not net]


def test_what_was_given_up_frees_the_engine(drawn_out: ModelProto, tmp_path: Path) -> None:
    """Points of a ladder run one at a time there. The next frame, at once, is far shorter than what was given up would
    have gone on for; the best of several tries, since any single one may be late on a busy machine."""
    if "engine" not in runtimes.installed():
        pytest.skip("there is no engine here")
    small = ModelProto()
    small.CopyFrom(drawn_out)
    del small.graph.node[5:]  # one convolution
    small.graph.node.append(helper.make_node("DequantizeLinear", ["q1", "s", "z"], ["y"]))
    members = {"0.onnx": small.SerializeToString(), "1.onnx": drawn_out.SerializeToString()}
    for data in members.values():
        trust(data)
    spec = {"kind": "tensor", "shape": [16, 64, 64]}
    shoe.write(tmp_path / "x.shoe", shoe.Contents(spec, (), tuple(map(Point, members)), members))
    x = np.random.default_rng(0).uniform(-3, 3, (16, 64, 64)).astype(np.float32)
    adaptive = load(tmp_path / "x.shoe", runtime="engine").adaptive(10_000)
    adaptive.outputs(x)
    governor, whole = adaptive.governor, adaptive.network_ms[1]
    assert governor is not None
    adaptive._reserve_ms, adaptive.deadline_ms = 0.0, whole / 3
    governor.likely_ms = lambda of, seen=None: 0.0  # type: ignore[method-assign]  # in vain: it is always begun
    given_up, next_ms, wanted = 0, list[float](), [0]
    governor.choose = lambda spent_ms=0.0: wanted[0]  # type: ignore[method-assign]
    for _ in range(40):
        wanted[0], governor.net = 1, True
        adaptive.outputs(x)
        assert adaptive.last is not None
        if adaptive.last.given_up:
            given_up += 1
            wanted[0], governor.net = 0, False
            adaptive.outputs(x)
            next_ms.append(adaptive.last.ms)
    assert given_up
    assert min(next_ms) < whole / 3


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
    adaptive.governor.likely_ms = lambda of, seen=None: 1000 * LONG  # type: ignore[method-assign]
    begun = time.perf_counter()
    adaptive.outputs(PHOTOGRAPH)
    assert time.perf_counter() - begun < LONG / 3
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.given_up) == (0, False)


@pytest.mark.parametrize("chained", [False, True])
def test_what_is_slow_already_is_not_made_richer(ladder: Callable[..., Adaptive], chained: bool) -> None:
    """The first answer of the frame shows a load that no frame before it did: the next point would be late."""
    adaptive = ladder(1000 * LONG, chained=chained)
    pretend(adaptive, (1.0, 20.0, 40.0), 1, net=True)
    governor = adaptive.governor
    assert governor is not None
    del governor.likely_ms  # type: ignore[method-assign] # the real one
    governor.expected_ms, governor._level = (1.0, 20.0, 40.0), 0.0
    adaptive.stages[0].session.seconds = LONG / 6  # type: ignore[misc] # 50 times as long, and 20 ms would become 1000
    adaptive.outputs(PHOTOGRAPH)
    assert adaptive.last is not None
    assert (adaptive.last.point, adaptive.last.given_up) == (0, False)
    assert adaptive.stages[1].session.threads == []  # type: ignore[attr-defined]


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
