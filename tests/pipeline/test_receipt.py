"""Whole receipts from cases made by hand, with timings made by hand: every figure has a known value."""

import math
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, ShoestringError
from shoestring.core.receipt import FAILS, HOLDS, NOISY, BudgetLine, Receipt
from shoestring.deploy import runtimes
from shoestring.deploy.inventory import inventory
from shoestring.deploy.rewrite import lean
from shoestring.measure.micronet import CIFAR100
from shoestring.pipeline import contest
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.receipt import Case, measure
from shoestring.pipeline.samples import Samples

MS = {
    "subject": 1.0,
    "fp32@onnxruntime": 4.0,
    "fp32@openvino": 5.0,
    "int8@onnxruntime": 2.0,
    "int8@openvino": 1.5,
    "other.onnx@onnxruntime": 3.0,
    "other.onnx@openvino": 6.0,
}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
needs_engine = pytest.mark.skipif("engine" not in runtimes.installed(), reason="the engine was not built")
both = pytest.mark.skipif("openvino" not in runtimes.installed(), reason="openvino is not installed")


@pytest.fixture
def case(original: Original, variants: dict[str, ModelProto], device: Device) -> Case:
    names = [layer.name for layer in original.layers if layer.weight]
    return Case("x.shoe", variants["int8"], original.graph, variants["int8"], 5000, device, names, (90, 30))


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 MB for the first graph, 80 for the second, without the seconds that two processes take."""
    peaks = iter([60.0, 80.0] * 10)
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: next(peaks))


@both
def test_every_figure(case: Case, timed) -> None:
    timed(MS)
    told = measure(case, Budget.parse("latency<=0.3x, size<=6kB, memory<=0.8x"))
    assert (told.subject.file, told.subject.runtime) == ("x.shoe", "onnxruntime")
    assert (told.subject.size_bytes, told.subject.peak_mb, told.subject.quality) == (5000, 60.0, None)
    assert told.subject.latency_ms == pytest.approx(1.0, rel=1e-3)
    assert told.subject.cpu_ms == pytest.approx(1.0, rel=1e-3)
    best = {(item.name, item.runtime): item.best for item in told.baselines if item.name != "bf16"}
    assert best == {
        ("fp32", "onnxruntime"): True,
        ("fp32", "openvino"): False,
        ("int8", "onnxruntime"): False,
        ("int8", "openvino"): True,
    }
    sizes = {item.size_bytes for item in told.baselines if item.name == "fp32"}
    assert sizes == {len(lean(case.original))}
    ratios = {item.against: item for item in told.speedup}
    assert ratios["fp32"].ratio == pytest.approx(4.0, rel=2e-3)
    assert ratios["int8"].ratio == pytest.approx(1.5, rel=2e-3)
    assert ratios["fp32"].realisation == pytest.approx(4 / 3, rel=2e-3)
    # 4 to 2 by 8 bits on the same runtime, 2 to 1 by what is left
    assert ratios["fp32"].split == pytest.approx({"runtime": 1.0, "precision": 2.0, "structure": 2.0}, rel=2e-3)
    for speedup in told.speedup:
        assert math.prod(speedup.split.values()) == pytest.approx(speedup.ratio)
    got = {line.limit: line.got for line in told.budget}
    assert got == pytest.approx({"latency": 0.25, "size": 5000, "memory": 0.75}, rel=2e-3)
    assert told.verdict == HOLDS
    assert told.device["batch"] == told.device["threads"] == 1
    assert told.device["clock"] == "CPU time"
    assert told.device["rounds"] == 64
    assert set(told.device["runtimes"]) == set(runtimes.installed())
    assert Receipt.from_json(told.to_json()) == told


def test_the_micronet_score_is_that_of_the_exported_graph(case: Case, timed) -> None:
    """Products in 8 bits, sums in 32; what little the network has of other work is within a tenth of the sums."""
    timed(MS)
    told = measure(case, Budget.parse("micronet<=0.001"))
    dots = sum(layer.macs for layer in inventory(case.original))
    assert told.micronet is not None and "ImageNet's reference" in told.micronet.how
    operations = (told.micronet.value - 460.5 / 6.9e6) * 1170e6  # 1392 weights, 70 scales, 14 quantisers
    assert dots * (8 / 32 + 0.9) < operations < dots * (8 / 32 + 1.1)
    assert told.budget[0] == BudgetLine("micronet", 0.001, told.micronet.value, "", True)
    assert measure(case, Budget.parse("micronet<=0.0001")).verdict == FAILS
    other = measure(replace(case, reference=CIFAR100), Budget()).micronet
    assert other is not None and other.value < told.micronet.value / 5


def test_a_graph_without_a_score_says_why(case: Case, timed, monkeypatch: pytest.MonkeyPatch) -> None:
    timed(MS)

    def refused(graph: ModelProto) -> None:
        raise BadInput("counts: turn: no rule says what transpose costs")

    monkeypatch.setattr("shoestring.pipeline.receipt.counts", refused)
    told = measure(case, Budget.parse("micronet<=1"))
    assert (told.micronet, told.budget[0].got, told.budget[0].met, told.verdict) == (None, None, None, HOLDS)
    assert "No MicroNet score: counts: turn: no rule says what transpose costs." in told.notes


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [("", HOLDS), ("latency<=0.3x", HOLDS), ("latency<=0.2x", FAILS), ("latency<=0.3x, size<=4kB", FAILS)],
)
def test_verdicts(budget: str, verdict: str, case: Case, timed) -> None:
    timed(MS)
    assert measure(case, Budget.parse(budget)).verdict == verdict


def slowing(real: Callable[..., contest.Timings]) -> Callable[..., contest.Timings]:
    """A machine that lends the subject half of its speed in the second half of the run."""

    def interleave(*given: object) -> contest.Timings:
        timings = real(*given)
        drift = np.repeat([1.0, 2.0], 32)
        cpu = {name: samples * drift if name == "subject" else samples for name, samples in timings.cpu.items()}
        return replace(timings, cpu=cpu)

    return interleave


@pytest.mark.parametrize(
    ("budget", "verdict"), [("", NOISY), ("latency<=0.3x", NOISY), ("latency<=0.3x, size<=4kB", FAILS)]
)
def test_a_machine_that_changes_under_the_measurement(budget, verdict, case: Case, timed, monkeypatch) -> None:
    timed(MS)
    monkeypatch.setattr(contest, "interleave", slowing(contest.interleave))
    assert measure(case, Budget.parse(budget)).verdict == verdict


def test_another_file_among_the_baselines(case: Case, variants: dict[str, ModelProto], timed) -> None:
    timed(MS)
    told = measure(replace(case, others={"other.onnx": variants["fp32"]}), Budget())
    assert [item.against for item in told.speedup][-1] == "other.onnx"
    assert told.speedup[-1].ratio == pytest.approx(3.0, rel=2e-3)
    ran = [item.runtime for item in told.baselines if item.name == "other.onnx"]
    assert ran == list(runtimes.installed(runtimes.STOCK))


@needs_engine
def test_another_file_is_beaten_where_it_is_fastest(case: Case, variants: dict[str, ModelProto], timed) -> None:
    """Unlike the original: whoever has that file and the engine would run it there."""
    timed(MS | {"other.onnx@engine": 0.5})
    told = measure(replace(case, others={"other.onnx": variants["int8"]}), Budget())
    assert told.speedup[-1].ratio == pytest.approx(0.5, rel=2e-3)
    assert [item.runtime for item in told.baselines if item.name == "other.onnx" and item.best] == ["engine"]


@needs_engine
def test_on_our_engine_stock_runtimes_are_to_beat(case: Case, timed) -> None:
    """Dense 8 bits on the engine splits the speed-up, and is not the baseline even when it is faster."""
    timed(MS | {"int8@engine": 1.25})
    told = measure(replace(case, device=here("engine")), Budget())
    dense = [item for item in told.baselines if (item.name, item.runtime) == ("int8", "engine")]
    assert [(item.best, "not a baseline to beat" in item.note) for item in dense] == [(False, True)]
    assert {item.runtime for item in told.baselines if item.best} <= set(runtimes.STOCK)
    line = next(line for line in told.speedup if line.against == "int8")
    best = min(ms for key, ms in MS.items() if key.startswith("int8@") and key.split("@")[1] in runtimes.installed())
    assert line.ratio == pytest.approx(best, rel=5e-3)
    assert line.split == pytest.approx({"runtime": best / 1.25, "precision": 1.0, "structure": 1.25}, rel=1e-2)
    assert not any("left out" in note for note in told.notes)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches(batch: int, case: Case, timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """All graphs are really run at that size."""
    timed(MS)
    real, fed = contest._open, []

    def spied(entrant: contest.Entrant, threads: int, precision: str) -> Callable[[np.ndarray], object]:
        session = real(entrant, threads, precision)
        return lambda x: fed.append((x.shape, session(x)[0].shape))

    monkeypatch.setattr(contest, "_open", spied)
    told = measure(case, Budget(), batch=batch)
    assert told.device["batch"] == batch
    assert set(fed) == {((batch, 3, 32, 32), (batch, 10))}


def test_a_batch_that_the_graph_does_not_take(case: Case, timed) -> None:
    timed(MS)
    given, result = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 32, 32]), ("y", [3072]))
    )
    flat = numpy_helper.from_array(np.array([3072]), "flat")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "flat"], ["y"])], "g", [given], [result], [flat])
    baked = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(BadInput, match="has its batch size baked in and cannot run at batch 2"):
        measure(replace(case, subject=baked), Budget(), batch=2)


@pytest.mark.skipif(CORES < 2, reason="one core")
def test_two_threads_are_timed_by_the_wall(case: Case, timed) -> None:
    timed(MS)
    told = measure(replace(case, device=here("onnxruntime", 2)), Budget())
    assert told.device["threads"] == 2
    assert told.device["clock"] == "wall time"


def test_quality_is_judged_in_the_runtime_that_is_timed(case: Case, labelled: Samples, timed) -> None:
    timed(MS)
    for runtime in runtimes.installed():
        told = measure(replace(case, device=here(runtime), samples=labelled), Budget.parse("quality>=-100pt"))
        found = outputs(case.subject, runtime, labelled.judgement).argmax(axis=1)
        original = outputs(case.original, "onnxruntime", labelled.judgement).argmax(axis=1)
        assert told.quality.subject == told.subject.quality == pytest.approx(100 * np.mean(found == 3))
        assert told.quality.original == pytest.approx(100 * np.mean(original == 3))
        assert told.quality.agreement == pytest.approx(np.mean(found == original))
        assert told.quality.n == len(labelled.judgement)
        qualities = {item.name: item.quality for item in told.baselines}
        assert qualities["fp32"] == told.quality.original
        assert qualities["int8"] == told.quality.subject  # the same graph
        assert told.budget[0].met is True


def test_random_weights_are_not_judged(case: Case, labelled: Samples, timed) -> None:
    timed(MS)
    told = measure(replace(case, samples=labelled, trained=False), Budget.parse("quality>=-1pt"))
    assert told.quality is None
    assert told.budget[0].met is None
    assert told.verdict == HOLDS
    assert "quality was not measured: give --original MODEL and --data DIR." in told.notes


def test_memory_that_the_system_does_not_tell(case: Case, timed, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> float:
        raise ShoestringError("no")

    timed(MS)
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", silent)
    told = measure(case, Budget.parse("memory<=1MB"))
    assert told.subject.peak_mb is None
    assert told.budget[0].got is None
    assert any(note.startswith("memory was not measured") for note in told.notes)


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_layers_are_profiled_in_both(runtime: str, case: Case, timed) -> None:
    timed(MS)
    told = measure(replace(case, device=here(runtime)), Budget())
    assert [item.name for item in told.layers] == list(case.layers)
    assert all(item.original_ms > 0 for item in told.layers)
    assert all(item.subject_ms > 0 for item in told.layers)
    assert measure(replace(case, layers=()), Budget()).layers == ()


def test_stages_are_reported_in_order_and_notes_passed_on(case: Case, samples: Samples, timed) -> None:
    timed(MS)
    stages: dict[str, float] = {}
    told = measure(
        replace(case, samples=samples, notes=("remark",)),
        Budget(),
        progress=lambda stage, share: stages.__setitem__(stage, share),
    )
    assert list(stages) == ["judging", "profiling layers", "measuring memory"]  # timing is made by hand
    assert set(stages.values()) == {1.0}
    assert told.notes == ("remark",)


def test_no_8_bit_baseline(case: Case, timed) -> None:
    timed(MS)
    told = measure(replace(case, int8=None), Budget())
    assert "int8" not in {item.name for item in told.baselines}
    assert [item.split for item in told.speedup if item.against == "fp32"] == [{}]


def test_really_measured(case: Case, monkeypatch: pytest.MonkeyPatch, brief) -> None:
    """The original against itself: whatever the machine does, no factor of two appears."""
    told = measure(replace(case, subject=case.original), Budget(), seconds=0.5)
    (over_fp32,) = (item for item in told.speedup if item.against == "fp32")
    assert over_fp32.low <= over_fp32.ratio <= over_fp32.high
    assert 0.3 < over_fp32.ratio < 1.5  # at most as fast as the best runtime
    assert all(item.latency_ms > 0 for item in told.baselines)
