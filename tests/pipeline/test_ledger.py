"""The ledger of real fits of the small network: its lines, what they take and what they keep."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto

from shoestring.core.errors import NoEffectWarning
from shoestring.core.receipt import Step
from shoestring.pipeline import ledger as module
from shoestring.pipeline import untrained
from shoestring.pipeline.asked import asked
from shoestring.pipeline.ledger import brief, ledger
from shoestring.pipeline.making import Made, make
from shoestring.pipeline.original import Original
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples

SIZE = 12345  # of the file
ZEROS = "magnitude:4x1@50%"
Making = Callable[..., Made]


def quiet(stage: str, share: float) -> None:
    pass


@pytest.fixture
def making(original: Original, samples: Samples, tmp_path: Path) -> Making:
    def run(*methods: str, **how: Any) -> Made:
        request = Request(tmp_path / "x.shoe", methods=methods, runtime="onnxruntime", **how)
        found = make(original, samples, request, asked(original, methods), quiet)
        assert found is not None
        return found

    return run


@pytest.fixture
def kept(original: Original, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Step, ...]]:
    """The ledger, with 9 ms for the original, and 1 ms for the first line, 2 ms for the second, ..."""

    def against(graphs: Mapping[str, tuple[ModelProto, str]], theirs: ModelProto, threads: int) -> tuple[dict, float]:
        assert theirs is original.graph
        assert {runtime for _, runtime in graphs.values()} <= {"onnxruntime"}
        return {name: 1.0 + number for number, name in enumerate(graphs)}, 9.0

    monkeypatch.setattr(module, "against", against)

    def run(made: Made, plan: Any = None) -> tuple[Step, ...]:
        return ledger(original, made, plan, SIZE, quiet)

    return run


def percent(graph: ModelProto, original: ModelProto, inputs: list[np.ndarray]) -> float:
    """Of the probability that stays where it was."""
    sides = []
    for model in (graph, original):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        logits = np.concatenate([session.run(None, {"input": value})[0] for value in inputs]).astype(float)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        sides.append(exponentials / exponentials.sum(1, keepdims=True))
    return 100 * (1 - np.abs(sides[0] - sides[1]).sum(1).mean() / 2)


def told(found: tuple[Step, ...]) -> list[tuple[str, float, bool]]:
    return [(step.step, step.latency_ms, step.kept) for step in found]


def test_zeros_that_are_made_up_for(making: Making, kept, original: Original) -> None:
    made = making(ZEROS)
    found = kept(made)
    assert told(found) == [
        ("original, fp32", 9.0, True),
        ("8 bits", 1.0, True),
        ("magnitude", 2.0, True),
        ("reconstruction", 3.0, True),
    ]
    held = made.dense.held_out
    graphs = [original.graph, made.dense.build(), made.raw, made.subject]
    assert [step.quality for step in found] == pytest.approx([percent(graph, original.graph, held) for graph in graphs])
    assert found[0].quality == 100
    assert found[2].quality < found[3].quality
    # Four bytes a weight, then one, and what a graph takes besides.
    weights = sum(layer.weights for layer in original.layers)
    sizes = [step.size_bytes for step in found]
    assert 4 * weights < sizes[0]
    assert weights < sizes[1] < sizes[0]
    assert sizes[3] == SIZE
    assert all(step.note == "" for step in found)


def test_reconstruction_that_did_harm(making: Making, kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told as taken back, with why; the file is the network before it."""

    def worse(made: Any, raw: ModelProto, *_: Any) -> Any:
        return replace(made, graph=raw, held_out=(1.0, 2.5), helped=False)

    monkeypatch.setattr(untrained, "better", worse)
    found = kept(making(ZEROS))
    assert [step.kept for step in found] == [True, True, True, False]
    assert found[3].note == "it did harm on held-out inputs"
    assert found[3].quality == found[2].quality
    assert found[2].size_bytes == SIZE


@pytest.mark.parametrize(
    ("methods", "lines"),
    [
        (("int8",), ["8 bits", "reconstruction"]),
        (("int8:w4",), ["8 bits", "bits by layer", "reconstruction"]),
        (("structured:n=2:all",), ["8 bits", "structured", "reconstruction"]),
        (("structured:n=2:all", ZEROS, "int8:w4"), ["8 bits", "structured, magnitude", "reconstruction"]),
        (("lsq+:w4a8",), ["8 bits", "lsq+", "reconstruction"]),
    ],
    ids=" ".join,
)
def test_lines(methods: tuple[str, ...], lines: list[str], making: Making, kept) -> None:
    found = kept(making(*methods))
    assert [step.step for step in found] == ["original, fp32", *lines]
    assert found[-1].size_bytes == SIZE


def test_without_reconstruction(making: Making, kept) -> None:
    found = kept(making(ZEROS, reconstruct=False))
    assert told(found)[1:] == [("8 bits", 1.0, True), ("magnitude", 2.0, True)]
    assert found[2].size_bytes == SIZE
    plain = kept(making("int8", reconstruct=False))
    assert told(plain)[1:] == [("8 bits", 1.0, True)]
    assert plain[1].size_bytes == SIZE


def test_what_was_trained_is_called_so(making: Making, kept) -> None:
    made = making(ZEROS)
    assert made.pruned is not None
    assert kept(replace(made, pruned=replace(made.pruned, epochs=2.0)))[2].step == "magnitude, trained"


def test_fewer_bits_are_fewer_bytes(making: Making, original: Original, samples: Samples) -> None:
    """What 4 bits save shows where layers are larger than what an archive says of them; here it is packed at least."""
    graph = making("int8:w4", reconstruct=False).subject
    wide = {layer.name: 8 for layer in original.layers if layer.weight}
    assert module._bytes(graph, {}) == module._bytes(graph, wide)
    assert module._bytes(graph, {**wide, "blocks.0.project.0": 4}) != module._bytes(graph, wide)


def test_what_did_not_pay(making: Making, kept) -> None:
    """Stands behind what it was compared with, and is told as taken back."""
    plan = SimpleNamespace(settled=SimpleNamespace(taken_back=(("structured", "2 ms with it, 2 ms without"),)))
    found = kept(making(ZEROS), plan)
    assert [step.step for step in found[1:]] == ["8 bits", "structured", "magnitude", "reconstruction"]
    assert [step.kept for step in found[1:]] == [True, False, True, True]
    assert found[2].note == "2 ms with it, 2 ms without"
    assert found[2].quality == found[1].quality


def test_nothing_in_8_bits(making: Making, kept) -> None:
    """The file is the original."""
    with pytest.warns(NoEffectWarning):
        made = making("int8:*=fp32")
    assert told(kept(made)) == [("original, fp32", 9.0, True)]


def test_real_times(making: Making, original: Original, brief) -> None:
    found = ledger(original, making(ZEROS), None, SIZE, quiet)
    assert len(found) == 4
    assert all(0 < step.latency_ms < 1000 for step in found)


def test_in_brief(making: Making, kept: Callable[..., tuple[Step, ...]], original: Original) -> None:
    """The same lines, for what was not made by `making`."""
    made = making(ZEROS)
    long = kept(made)
    short = brief(original, made.dense, ("what was done", made.subject), SIZE, made.device, quiet)
    assert [step.step for step in short] == ["original, fp32", "8 bits", "what was done"]
    assert short[:2] == long[:2]
    assert (short[-1].size_bytes, short[-1].latency_ms, short[-1].quality) == (SIZE, 2.0, long[-1].quality)
