"""The main job from Python: what is written, what is refused, and that nothing is lost when it is killed."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.budget import Budget
from shoestring.core.device import WRONG
from shoestring.core.errors import BadInput, NoEffectWarning, NotMet
from shoestring.core.receipt import FAILS, HOLDS
from shoestring.deploy import parity, runtimes, shoe
from shoestring.deploy.grids import stored
from shoestring.deploy.normal_form import is_quantised, violations
from shoestring.pipeline.device import here
from shoestring.pipeline.fit import Fitted, fit
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import MARGIN
from shoestring.train.recipe import Recipe

LAYERS = ["stem.0", *(f"blocks.{i}.{part}.0" for i in (0, 1) for part in ("depthwise", "project")), "classifier"]
LOOSE, BEYOND = Budget.parse("latency<=50x, size<=9x"), Budget.parse("latency<=0.001x")


@pytest.fixture
def fast(timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings and memory made by hand: 8 bits take half of the time, the file too."""
    timed({"subject": 2.0, "fp32@onnxruntime": 4.0, "int8@onnxruntime": 2.0, "original on onnxruntime": 4.0})
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)


@pytest.fixture
def fitting(fast, original: Original, samples: Samples, tmp_path: Path) -> Callable[..., Fitted]:
    """`fitting(budget=...)`: a fit into `x.shoe` on onnxruntime; `samples` and `original` can be others. A plan, if
    there is one, is made once, of 8 bits and fp32."""
    usual = {"out": tmp_path / "x.shoe", "runtime": "onnxruntime", "rounds": 0, "without": ("structured",)}

    def run(samples: Samples = samples, original: Original = original, **request: Any) -> Fitted:
        return fit(original, samples, Request(**{**usual, **request}))

    return run


def test_a_real_fit(fitted: Fitted, original: Original) -> None:
    """The file holds what was measured, and how it came to be."""
    artifact = shoe.read(fitted.path)
    assert artifact.receipt == fitted.receipt
    graph = onnx.load_from_string(artifact.onnx())
    assert violations(graph) == []
    assert all(line.met for line in fitted.receipt.budget)
    layers = [layer.name for layer in original.layers if layer.weight]
    assert fitted.picks == dict.fromkeys(layers, "int8")
    assert fitted.proposal is None  # int8 was asked for
    assert artifact.provenance["methods"] == dict.fromkeys(layers, "int8")
    assert artifact.provenance["budget"] == "latency<=50x, size<=1MB"
    assert artifact.labels == ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")
    assert artifact.preprocess["crop"] == [32, 32]
    measured = artifact.points[0].measured
    assert measured["latency_ms"] == fitted.receipt.subject.latency_ms > 0
    assert measured["runtime"] == fitted.receipt.subject.runtime in runtimes.installed()
    assert fitted.receipt.quality.n == 22
    assert {line.limit: line.met for line in fitted.receipt.budget}["size"] is True
    assert fitted.parity.first_divergence is None
    steps = fitted.receipt.ledger
    assert [step.step for step in steps] == ["original, fp32", "8 bits", "reconstruction"]
    assert all(step.latency_ms > 0 for step in steps)
    assert list(fitted.path.parent.glob("*.shoe")) == [fitted.path]
    assert [path for path in fitted.path.parent.iterdir() if path.name.startswith(".")] == []


def test_the_file_computes_nearly_what_the_original_does(fitting, original: Original, samples: Samples) -> None:
    done = fitting(methods=("int8",))
    graph = onnx.load_from_string(shoe.read(done.path).onnx())
    seen = samples.calibration[2:]  # the others gave no range
    expected = outputs(original.graph, "onnxruntime", seen)
    assert np.abs(outputs(graph, "onnxruntime", seen) - expected).mean() < 0.02 * np.ptp(expected)
    assert done.receipt.verdict == HOLDS
    assert done.receipt.quality.metric == "probability kept"


def test_the_same_fit_gives_the_same_file(fitting) -> None:
    """But for what was measured."""
    first, second = (shoe.read(fitting(budget=LOOSE, methods=("int8",)).path) for _ in range(2))
    assert first.members == second.members
    assert first.provenance == second.provenance


def test_the_fastest_runtime_is_taken(fitting, timed) -> None:
    for winner in runtimes.installed():
        timed({winner: 1.0})
        assert fitting(runtime=None, methods=("int8",)).receipt.subject.runtime == winner


def test_full_range(fitting, monkeypatch: pytest.MonkeyPatch) -> None:
    """`int8:full` uses every step of the weights; the default keeps pairs of neighbours within 128 steps."""

    def largest_pair(path: Path) -> int:
        graph = onnx.load_from_string(shoe.read(path).onnx()).graph
        (codes,) = (
            numpy_helper.to_array(t) for t in graph.initializer if t.name.startswith("blocks.0.project.0.weight_q")
        )
        pairs = np.abs(codes.astype(int)).reshape(16, 8, 2)
        same_sign = np.sign(codes.reshape(16, 8, 2)).prod(axis=2) > 0
        return int(pairs.sum(axis=2)[same_sign].max())

    assert largest_pair(fitting(methods=("int8",)).path) <= 128
    monkeypatch.setattr(parity, "gate", lambda compared: None)
    full = fitting(methods=("int8:full",))
    assert largest_pair(full.path) > 128
    assert set(shoe.read(full.path).provenance["methods"].values()) == {"int8:full"}


def test_full_range_is_gated_where_it_saturates(fitting) -> None:
    """x86-64 without VNNI adds two products in 16 bits: the contract says so, and the parity gate finds it."""
    told = here("onnxruntime").verdict("u8 x s8 full range")
    if told is not None and told.verdict == WRONG:
        with pytest.raises(NotMet, match="diverges from the fake-quantised model first at "):
            fitting(methods=("int8:full",))
    else:
        assert fitting(methods=("int8:full",)).parity.first_divergence is None


def test_one_rule_is_not_compared_with_others(fitting) -> None:
    done = fitting(methods=("int8:percentile",))
    assert shoe.read(done.path).provenance["ranges"] == "percentile"
    assert any("Ranges by percentile" in note for note in done.receipt.notes)


def test_beyond_reach_the_closest_plan_is_written_and_the_receipt_fails(fitting, bench) -> None:
    bench()
    done = fitting(budget=BEYOND)
    assert done.receipt.verdict == FAILS
    assert not done.proposal.met
    assert set(done.picks.values()) == {"int8"}  # as fast as it gets
    (note,) = (note for note in done.receipt.notes if note.startswith("No plan meets the budget"))
    assert "latency<=0.006ms cannot be met; latency<=3.062ms would do" in note  # 3 ms, with the margin of a plan
    assert note.endswith("This is the closest one.")
    assert shoe.read(done.path).receipt == done.receipt


def test_a_plan_that_changes_nothing_says_so(fitting, bench) -> None:
    bench()
    with pytest.warns(NoEffectWarning, match="every layer stays in fp32: the file is the original"):
        done = fitting(budget=LOOSE)
    artifact = shoe.read(done.path)
    assert not is_quantised(onnx.load_from_string(artifact.onnx()))
    assert artifact.provenance["methods"] == {}
    assert done.receipt.quality.difference == 0.0
    assert [step.step for step in done.receipt.ledger] == ["original, fp32"]


def test_a_mixed_plan(fitting, bench) -> None:
    """8 bits are dear in the depthwise layers: they stay in fp32, and the file says which did not."""
    depthwise = [name for name in LAYERS if "depthwise" in name]
    bench(dict.fromkeys(depthwise, 3.0))
    wanted = [name for name in LAYERS if name not in depthwise]
    expected = len(LAYERS) - 0.5 * len(wanted)
    done = fitting(budget=Budget.parse(f"latency<={(expected + 0.1) / MARGIN}ms"))
    assert done.proposal.met
    assert done.proposal.totals["latency"] == expected
    assert done.picks == {name: "fp32" if name in depthwise else "int8" for name in LAYERS}
    assert set(done.proposal.methods) == {f"int8:{':'.join(f'{name}=fp32' for name in depthwise)}"}
    graph = stored(onnx.load_from_string(shoe.read(done.path).onnx()))
    assert [name for name, layer in graph.items() if layer.scales is None] == depthwise
    assert shoe.read(done.path).provenance["methods"] == dict.fromkeys(wanted, "int8")
    assert len(done.parity.edges) > 1
    assert "Planned on onnxruntime: int8 in 4, fp32 in 2 of 6 layers." in done.receipt.notes


def test_a_plan_for_a_size(fitting, bench) -> None:
    """No time is limited: as many layers as it takes are in 8 bits, and the file, not a draft of it, is small enough
    (that of this network grows when it is reconstructed, which gives it biases)."""
    bench()
    with pytest.warns(NoEffectWarning):
        floats = fitting(budget=LOOSE).receipt.subject.size_bytes
    eight = fitting(methods=("int8",)).receipt.subject.size_bytes
    limit = round(0.4 * floats + 0.6 * eight)
    done = fitting(budget=Budget.parse(f"size<={limit}B"))
    assert done.receipt.verdict == HOLDS
    assert eight < done.receipt.subject.size_bytes <= limit
    assert set(done.picks.values()) == {"fp32", "int8"}
    assert done.proposal.met
    assert {"size"} == set(done.proposal.limits)


@pytest.mark.parametrize(
    ("labels", "trained", "budget", "asked"),
    [
        (False, True, "", -10.0),  # divergence is gated even if nobody asks
        (False, True, "quality>=-50pt", -50.0),
        (True, True, "", None),
        (False, False, "", None),
        (True, True, "quality>=-50pt", -50.0),
    ],
)
def test_what_quality_is_judged_on(labels, trained, budget, asked, fitting, request) -> None:
    samples = request.getfixturevalue("labelled" if labels else "samples")
    original = replace(request.getfixturevalue("original"), trained=trained)
    done = fitting(samples, original, budget=Budget.parse(budget), methods=("int8",))
    lines = {line.limit: line for line in done.receipt.budget}
    assert (lines["quality"].asked if "quality" in lines else None) == asked
    assert (done.receipt.quality is not None) is trained
    notes = " ".join(done.receipt.notes)
    assert ("weights are random" in notes) is not trained
    assert ("No labels" in notes) is (trained and not labels)
    assert shoe.read(done.path).provenance["budget"] == budget


BAD = {
    "method": ({"methods": ("int4",)}, "unknown method 'int4'"),
    "epochs": ({"methods": ("int8",), "recipe": Recipe(epochs=1)}, "int8 works after training"),
    "suffix": ({"out": "model.onnx"}, "name it model.shoe"),
    "folder": ({"out": "nowhere/x.shoe"}, "there is no folder"),
    "occupied": ({"out": "folder.shoe"}, "is a folder"),
    "runtime": ({"runtime": "tvm"}, "unknown 'tvm'"),
    "threads": ({"threads": 999}, "999 threads"),
    "without": ({"without": ("int4",)}, "--without: unknown method 'int4'"),
    "all": ({"without": ("int8",)}, "int8 is what plans are made of"),
}


@pytest.mark.parametrize("budget", ["", "latency<=0.5x"])
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    case, budget, fitting, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.shoe").mkdir()
    for file in ("making", "planned"):
        monkeypatch.setattr(f"shoestring.pipeline.{file}.eight_bit", lambda *_: pytest.fail("it went on"))
    request, reason = BAD[case]
    if "out" in request:
        request = {**request, "out": Path(str(request["out"]))}
    with pytest.raises(BadInput) as refused:
        fitting(budget=Budget.parse(budget), **request)
    assert reason in str(refused.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["folder.shoe"]


def test_a_network_without_layers(fitting, samples: Samples) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", values[:1], values[1:])
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(BadInput, match="has no layer that int8 applies to"):
        fitting(original=Original("relu", model, (), (3, 32, 32)))


def test_a_runtime_that_computes_something_else_is_named_and_nothing_is_written(fitting, monkeypatch) -> None:
    done = fitting(methods=("int8",))
    before = done.path.read_bytes()
    wrong = parity.Parity("onnxruntime", (parity.EdgeParity("stem.0", 0.3, 9, 0.5),), 0.1)
    monkeypatch.setattr(parity, "compare", lambda *_, **__: wrong)
    with pytest.raises(NotMet, match=r"diverges from the fake-quantised model first at stem\.0"):
        fitting(methods=("int8",), seed=1)
    assert done.path.read_bytes() == before


# A process that has everything imported, and then kills forks of itself: each at another moment.
KILLER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import torch
import shoestring.deploy.runtimes.onnxruntime
from shoestring.measure.timing import Schedule
from shoestring.pipeline import receipt, stopwatch, table
from shoestring.pipeline.device import here
from shoestring.pipeline.fit import fit
from shoestring.pipeline.original import resolve
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples

tiny, out, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
short = lambda seconds, threads: Schedule(seconds=0.2, rounds=(8, 20), warm_up=1, threads=threads)
receipt.Schedule = stopwatch.Schedule = table.Schedule = short

receipt.peak_mb = lambda *_: 1.0
torch.set_num_threads(1)  # threads would not survive a fork
original = resolve(tiny, input="3x32x32")

def run(seed):
    noise = [np.random.default_rng(i).standard_normal((1, 3, 32, 32), np.float32) for i in range(6)]
    fit(original, Samples(noise[:4], noise[4:]), Request(out, methods=("int8",), runtime="onnxruntime", seed=seed))

def fork(seed):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run(seed)
            code = 0
        finally:
            os._exit(code)
    return pid

assert os.waitpid(fork(0), 0)[1] == 0  # later ones find in caches what this one left there
start = time.monotonic()
assert os.waitpid(fork(0), 0)[1] == 0
whole = time.monotonic() - start
print(0, out.read_bytes().hex(), flush=True)
for seed in range(1, kills + 1):
    pid = fork(seed)
    time.sleep(whole * (seed / kills) ** 0.5)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print(seed, out.read_bytes().hex(), flush=True)
assert os.waitpid(fork(99), 0)[1] == 0
print(99, out.read_bytes().hex(), flush=True)
"""
# The same for the writing alone, again and again between two files.
WRITER = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path
from shoestring.deploy import shoe

source, out, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
read = shoe.read(source)
old = shoe.Contents(read.preprocess, read.labels, read.points, read.members, read.provenance)
new = replace(old, members={**old.members, "extra.npy": os.urandom(2**20)})
shoe.write(out, old)
for kill in range(kills):
    pid = os.fork()
    if not pid:
        while True:
            shoe.write(out, new)
            shoe.write(out, old)
    time.sleep(0.05 + 0.3 * kill / kills)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    written = shoe.read(out).members
    assert written in (old.members, new.members)
    print(len(written), flush=True)
"""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def driven(code: str, *arguments: object) -> list[list[str]]:
    """The words of each line that the code prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@forks
def test_kill_9_during_fit_leaves_the_old_file_or_the_new_one(tiny: str, tmp_path: Path) -> None:
    kills, folder = 4, tmp_path / "out"
    folder.mkdir()
    states = {int(seed): bytes.fromhex(data) for seed, data in driven(KILLER, tiny, folder / "x.shoe", kills)}
    assert list(states) == [0, 1, 2, 3, 4, 99]
    digests = []
    for seed, data in states.items():
        (tmp_path / "state.shoe").write_bytes(data)
        artifact = shoe.read(tmp_path / "state.shoe")  # complete: every hash fits
        assert artifact.receipt is not None
        assert artifact.provenance["seed"] <= seed
        digests.append(hashlib.sha256(data).hexdigest())
    assert digests[1] == digests[0]  # killed at half of the time: long before the end
    # What a killed process leaves is hidden, and the next run is not disturbed by it.
    assert shoe.read(folder / "x.shoe").provenance["seed"] == 99
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".x.shoe.")] == ["x.shoe"]


@forks
def test_kill_9_while_writing(fitted: Fitted, tmp_path: Path) -> None:
    kills, folder = 12, tmp_path / "out"
    folder.mkdir()
    states = driven(WRITER, fitted.path, folder / "x.shoe", kills)
    assert len(states) == kills
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".x.shoe.")] == ["x.shoe"]
