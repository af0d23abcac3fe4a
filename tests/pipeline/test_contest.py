"""The contest, with timings made by hand: who is best, what the speed-up is, and what it is made of."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.deploy import runtimes
from shoestring.deploy.rewrite import lean
from shoestring.measure.timing import Schedule, Timings
from shoestring.pipeline.contest import SUBJECT, Contest, Entrant, entrants, hold, speedups, told_baselines

MS = {
    SUBJECT: 1.0,
    "fp32@onnxruntime": 6.0,
    "fp32@openvino": 5.0,
    "int8@onnxruntime": 2.0,
    "int8@openvino": 2.5,
}


def made(ms: dict[str, float], precision: str = "int8", runtime: str = "onnxruntime", noise: float = 0.001) -> Contest:
    """Timings of 64 rounds, wall time being a tenth longer than CPU time."""
    rng = np.random.default_rng(0)
    cpu = {key: value * np.exp(rng.normal(0, noise, 64)) for key, value in ms.items()}
    wall = {key: 1.1 * samples for key, samples in cpu.items()}
    baselines = tuple(Entrant(*key.split("@"), b"", 7, 61.5) for key in ms if key != SUBJECT)
    return Contest(Entrant(precision, runtime, b"", 5), baselines, Timings(wall, cpu, dict.fromkeys(ms, 3)))


def test_the_fastest_runtime_of_each_precision_is_the_one_to_beat() -> None:
    contest = made(MS)
    assert contest.precisions == ("fp32", "int8")
    assert contest.best("fp32").key == "fp32@openvino"
    assert contest.best("int8").key == "int8@onnxruntime"
    assert contest.best("bf16") is None
    told = {(item.name, item.runtime): item for item in told_baselines(contest)}
    assert {key for key, item in told.items() if item.best} == {("fp32", "openvino"), ("int8", "onnxruntime")}
    assert told["fp32", "openvino"].latency_ms == pytest.approx(5.0, rel=1e-3)
    assert told["fp32", "openvino"].cpu_ms == pytest.approx(5.0, rel=1e-3)
    assert told["int8", "openvino"].size_bytes == 7
    assert told["int8", "openvino"].quality == 61.5


def test_speedups_by_hand() -> None:
    over_fp32, over_int8 = speedups(made(MS), macs=(300, 100))
    assert (over_fp32.against, over_int8.against) == ("fp32", "int8")
    assert over_fp32.ratio == pytest.approx(5.0, rel=2e-3)
    assert over_fp32.low < over_fp32.ratio < over_fp32.high
    assert over_fp32.realisation == pytest.approx(5 / 3, rel=2e-3)
    # 6 to 5 by the better runtime, 6 to 2 by the precision, 2 to 1 by the structure
    assert over_fp32.split == pytest.approx({"runtime": 5 / 6, "precision": 3.0, "structure": 2.0}, rel=2e-3)
    assert over_int8.split == pytest.approx({"runtime": 1.0, "precision": 1.0, "structure": 2.0}, rel=2e-3)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("noise", [0.001, 0.2])
def test_the_factors_multiply_to_the_ratio(precision: str, runtime: str, noise: float) -> None:
    for speedup in speedups(made(MS, precision, runtime, noise), macs=(1, 1)):
        assert math.prod(speedup.split.values()) == pytest.approx(speedup.ratio)
        assert speedup.realisation is None  # no fewer MACs: nothing was promised


def test_on_a_runtime_without_floats_precision_comes_first() -> None:
    """The fastest stock runtime goes from fp32 to int8, ours from there."""
    contest = made(MS | {"int8@engine": 1.6}, runtime="engine")
    assert {entrant.key for p in contest.precisions if (entrant := contest.best(p))} == {
        "fp32@openvino",
        "int8@onnxruntime",
    }
    over_fp32, over_int8 = speedups(contest, macs=(1, 1))
    assert over_fp32.split == pytest.approx({"runtime": 1.25, "precision": 2.5, "structure": 1.6}, rel=2e-3)
    assert over_int8.split == pytest.approx({"runtime": 1.25, "precision": 1.0, "structure": 1.6}, rel=2e-3)
    told = {(item.name, item.runtime): item.best for item in told_baselines(contest)}
    assert not told["int8", "engine"]


def test_another_file_is_beaten_where_it_is_fastest() -> None:
    contest = made(MS | {"other.shoe@onnxruntime": 3.0, "other.shoe@engine": 1.5})
    assert contest.best("other.shoe").key == "other.shoe@engine"


def test_without_its_own_runtime_there_is_no_split() -> None:
    """The runtime that is timed refused the baselines."""
    without = {key: ms for key, ms in MS.items() if not key.endswith("onnxruntime")}
    assert [speedup.split for speedup in speedups(made(without), macs=(1, 1))] == [{}, {}]
    assert speedups(made({SUBJECT: 1.0}), macs=(1, 1)) == ()


def test_a_network_without_macs_promises_nothing() -> None:
    assert {speedup.realisation for speedup in speedups(made(MS), macs=(0, 0))} == {None}


@pytest.mark.parametrize("default", ["fp32", "bf16"])
def test_every_baseline_on_every_runtime(default: str, variants: dict[str, ModelProto], monkeypatch) -> None:
    original, dense8 = variants["fp32"], variants["int8"]
    stock = runtimes.installed(runtimes.STOCK)
    for name in stock:
        monkeypatch.setattr(runtimes.get(name), "default_precision", lambda onnx: default)
    qualities = {"fp32": 70.0, "int8": 69.0, "bf16": None}
    found = entrants(original, dense8, "onnxruntime", qualities)
    precisions = ["fp32", "int8", *(["bf16"] if default == "bf16" else [])]
    assert [entrant.key for entrant in found] == [f"{p}@{r}" for r in stock for p in precisions]
    ours = entrants(original, dense8, "engine", qualities)
    assert ours[:-1] == found
    assert (ours[-1].key, ours[-1].graph, ours[-1].quality) == ("int8@engine", lean(dense8), 69.0)
    for entrant in found:
        assert entrant.graph == lean(dense8 if entrant.precision == "int8" else original)
        assert entrant.size == len(entrant.graph)
        assert entrant.quality == {"fp32": 70.0, "int8": 69.0}.get(entrant.precision)
    assert {e.precision for e in entrants(original, None, "engine", {})} == set(precisions) - {"int8"}


def test_a_baseline_that_a_runtime_refuses_is_named_and_left_out(variants: dict[str, ModelProto], timed) -> None:
    timed({SUBJECT: 1.0, "fp32@onnxruntime": 2.0})
    graph = lean(variants["fp32"])
    good, bad = Entrant("fp32", "onnxruntime", graph, 1), Entrant("int8", "onnxruntime", graph[:-40], 1)
    shares: list[float] = []
    contest = hold(Entrant("int8", "onnxruntime", graph, 1), [good, bad], (1, 3, 32, 32), Schedule(), shares.append)
    assert contest.baselines == (good,)
    assert len(contest.failed) == 1
    assert contest.failed[0].startswith("int8 on onnxruntime left out: ")
    assert "\n" not in contest.failed[0]
    assert contest.ms(SUBJECT) == pytest.approx(1.0, rel=1e-3)
    assert contest.ratio(good).value == pytest.approx(2.0, rel=1e-3)


def test_a_real_contest(variants: dict[str, ModelProto]) -> None:
    """The subject is one of the baselines: nothing is faster, and all is positive."""
    baselines = entrants(variants["fp32"], variants["int8"], runtimes.installed()[-1], {})
    subject = Entrant("fp32", "onnxruntime", lean(variants["fp32"]), 1)
    shares: list[float] = []
    schedule = Schedule(seconds=0.5, rounds=(10, 40))
    contest = hold(subject, baselines, (1, 3, 32, 32), schedule, shares.append)
    assert contest.failed == ()
    assert set(contest.timings.cpu) == {SUBJECT, *(entrant.key for entrant in baselines)}
    assert all((samples > 0).all() for samples in contest.timings.cpu.values())
    assert 0.7 < contest.ratio(baselines[0]).value < 1.4  # against itself, in ten rounds on any machine
    assert shares[-1] == 1.0


def test_only_the_fp32_baselines_are_held_to_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that lowers float to bf16 does so for the subject, as it does for its user."""
    asked: list[tuple[str, str]] = []

    def opened(entrant: Entrant, threads: int, precision: str) -> Callable[[np.ndarray], object]:
        asked.append((entrant.precision, precision))
        return lambda x: x

    monkeypatch.setattr("shoestring.pipeline.contest._open", opened)
    baselines = [Entrant(precision, "openvino", b"", 1) for precision in ("fp32", "bf16", "int8")]
    hold(Entrant("fp32", "openvino", b"", 1), baselines, (1, 1), Schedule(seconds=0.1, rounds=(8, 8)))
    assert asked == [("fp32", "default"), ("fp32", "fp32"), ("bf16", "default"), ("int8", "default")]
