from types import SimpleNamespace
from typing import Any

import numpy as np
from onnx import ModelProto

from shoestring.deploy import runtimes
from shoestring.deploy.walk import section
from shoestring.pipeline import stopwatch
from shoestring.pipeline.stopwatch import chained, fastest, milliseconds


def test_real_times(variants: dict[str, ModelProto], brief) -> None:
    """The network twice: equal, whatever the machine does meanwhile."""
    graph, shares = variants["fp32"], []
    times = milliseconds({"one": (graph, "onnxruntime"), "two": (graph, "onnxruntime")}, 1, progress=shares.append)
    assert set(times) == {"one", "two"}
    assert 0 < times["one"] < 100
    assert 0.5 < times["one"] / times["two"] < 2
    assert shares[-1] == 1.0


def test_inputs_are_noise(variants: dict[str, ModelProto], monkeypatch) -> None:
    """Points at zero are all one; the time to find neighbours among them is another."""
    seen = []

    def interleave(subjects: Any, *_: Any) -> Any:
        seen.extend(subject.args[0] for subject in subjects.values())
        return SimpleNamespace(primary=lambda: dict.fromkeys(subjects, np.ones(3)))

    monkeypatch.setattr(stopwatch, "interleave", interleave)
    assert milliseconds({"one": (variants["fp32"], "onnxruntime")}, 1) == {"one": 1.0}
    (x,) = seen
    assert (x.dtype, abs(x.mean()) < 0.1, 0.9 < x.std() < 1.1) == (np.float32, True, True)


def test_a_chain_takes_as_long_as_its_graphs_one_after_the_other(variants: dict[str, ModelProto], brief) -> None:
    """The network in two pieces, of which the first answers with what it hands on."""
    graph = variants["fp32"]
    first, rest = section(graph, "input", ["add", "add"]), section(graph, "add", ["output"])
    chains = {"first": [first], "both": [first, rest], "again": [first, rest]}
    times = chained(chains, "onnxruntime", 1)
    assert set(times) == set(chains)
    assert 0 < times["first"] < times["both"] < 100
    assert 0.5 < times["again"] / times["both"] < 2


def test_the_fastest_runtime_is_the_one_with_the_least_time(variants: dict[str, ModelProto], timed) -> None:
    for winner in runtimes.installed():
        timed({winner: 1.0})
        assert fastest(variants["int8"], 1) == winner


def test_the_only_runtime_is_the_fastest_without_timing(monkeypatch) -> None:
    monkeypatch.setattr(runtimes, "installed", lambda: ("onnxruntime",))
    monkeypatch.delattr(stopwatch, "milliseconds")
    assert fastest(ModelProto(), 1) == "onnxruntime"
