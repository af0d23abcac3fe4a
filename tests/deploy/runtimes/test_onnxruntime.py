"""ONNX Runtime's own matters: literal execution, profile files."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper

from shoestring.deploy.runtimes import onnxruntime

Build = Callable[..., ModelProto]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_literal_is_not_fused(quantised: ModelProto, inputs: list[np.ndarray], temporary: Path) -> None:
    """Every node of the file is executed under its name; fused, most are gone."""
    nodes = {node.name for node in quantised.graph.node}
    names = []
    for literal in (True, False):
        session = onnxruntime.open(quantised.SerializeToString(), profile=True, literal=literal)
        names.append(set(session.profile(inputs[0], runs=2)))
    assert nodes <= names[0] and all(name.endswith("/duplicated") for name in names[0] - nodes)
    assert len(names[1]) < 0.6 * len(nodes) and "depthwise.0_QuantizeLinear" not in names[1]


def test_literal_quantisation_is_that_of_the_standard(build: Build) -> None:
    """QuantizeLinear rounds to the nearest even and saturates, then DequantizeLinear (ONNX operators, opset 21)."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    x = np.array([[-3.0, -0.25, 0.25, 0.75, 1.26, 200.0]], np.float32)
    model = build(nodes, {"s": np.float32(0.5), "z": np.uint8(2)}, [1, 6], [1, 6])
    got = onnxruntime.open(model.SerializeToString(), literal=True)(x)[0]
    assert got.tolist() == [[-1.0, 0.0, 0.0, 1.0, 1.5, 126.5]]


def test_profiles_leave_nothing_behind(classifier: ModelProto, temporary: Path) -> None:
    """And two at the same time do not share a file."""
    x = np.zeros((1, 3, 8, 8), np.float32)
    first, second = (onnxruntime.open(classifier.SerializeToString(), profile=True) for _ in range(2))
    assert first.profile(x, runs=2).keys() == second.profile(x, runs=2).keys()
    assert not list(temporary.iterdir())


def test_a_loop_takes_what_a_run_without_notes_leaves_for_it(on_points: ModelProto, clouds, monkeypatch) -> None:
    """Noting each step of a loop takes longer than the steps do."""
    monkeypatch.setattr(onnxruntime.OnnxRuntimeSession, "_unprofiled", lambda *_: 1000.0)
    found = onnxruntime.open(on_points.SerializeToString(), profile=True).profile(clouds[0], runs=2)
    loops = [name for name in found if name.endswith("/Loop")]
    assert loops == [f"{name}/Loop" for name in ("farthest", "farthest_1", "farthest_2", "farthest_3")]
    assert not any(name.endswith("/inside") for name in found)
    assert abs(sum(found.values()) - 1000) < 1e-6
    monkeypatch.setattr(onnxruntime.OnnxRuntimeSession, "_unprofiled", lambda *_: 0.0)  # other nodes took longer
    found = onnxruntime.open(on_points.SerializeToString(), profile=True).profile(clouds[0], runs=2)
    assert [found[name] for name in loops] == [0.0] * 4
