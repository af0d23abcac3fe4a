"""Whole networks on the engine: the same bytes as ONNX Runtime, from the same file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from shoestring import engine
from shoestring.compress import int8
from shoestring.core.precision import INT8_SAFE16, Precision
from shoestring.deploy import parity, runtimes
from shoestring.deploy.inventory import inventory
from shoestring.deploy.rewrite import OPSET, tidy
from shoestring.deploy.versions import to_opset
from shoestring.pipeline.original import resolve
from shoestring.pipeline.post_training import calibrate

pytestmark = pytest.mark.skipif(not engine.available(), reason=engine.why_absent() or "present")

QUICK = ("cifar_mobilenet", "cifar_mobilenet_v3_small", "cifar_efficientnet_b0", "cifar_mixnet_s")
TRANSCENDENTAL = ("cifar_mobilenet", "cifar_efficientnet_b0", "cifar_mixnet_s", "efficientnet_b0", "mixnet_s")
SLOW = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_lite0",
    "efficientnet_b0",
    "mixnet_s",
    "resnet18",
    "resnet50",
)
FASTESTDET = Path(__file__).parents[2] / "shared" / "data" / "fastestdet" / "FastestDet.onnx"

POINTS = """
import torch
from torch import nn

class PointNetwork(nn.Module):
    "Three coordinates of each point through shared layers, the largest of each feature, classes."

    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64), nn.ReLU()
        )
        self.classes = nn.Linear(64, 10)

    def forward(self, x):
        return self.classes(torch.amax(self.shared(x), dim=2))
"""


def eight_bits(graph: ModelProto, precisions: dict[str, Precision], shape: tuple[int, ...]) -> ModelProto:
    rng = np.random.default_rng(0)
    return calibrate(graph, [rng.standard_normal((1, *shape), dtype=np.float32) for _ in range(4)], precisions).build()


def outputs(model: ModelProto, runtime: str, x: np.ndarray, threads: int = 1) -> list[np.ndarray]:
    return runtimes.get(runtime).open(model.SerializeToString(), threads=threads)(x)


def compare(name: str, input: str | None = None) -> None:
    original = resolve(name, input=input)
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    model = eight_bits(original.graph, precisions, original.input)
    x = np.random.default_rng(1).standard_normal((1, *original.input), dtype=np.float32)
    (expected,) = outputs(model, "onnxruntime", x)
    assert expected.std() > 0
    found = [outputs(model, "engine", x, threads)[0] for threads in (1, 2)]
    assert np.array_equal(*found)
    if name in TRANSCENDENTAL and not np.array_equal(found[0], expected):
        # ONNX Runtime approximates swish by other instructions on other processors; a code on a rounding border goes
        # either way, and travels. Layer by layer, each from the reference's codes, next to nothing differs.
        for edge in parity.compare(model, "engine", [x]).edges:
            assert edge.max_steps <= 1 and edge.mean_steps < 1e-3, edge
    else:
        assert np.array_equal(found[0], expected)


@pytest.mark.parametrize("name", QUICK)
def test_small_pictures(name: str) -> None:
    compare(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_imagenet(name: str) -> None:
    compare(name)


def test_points(tmp_path: Path) -> None:
    (tmp_path / "points.py").write_text(POINTS)
    compare(f"{tmp_path}/points.py:PointNetwork", "3x200")


@pytest.mark.slow
@pytest.mark.skipif(not FASTESTDET.exists(), reason="the shared data are not here")
def test_fastestdet() -> None:
    """A detector with channel shuffles, pools, resizing, and a softmax at its end, which is no integer operator."""
    graph = tidy(to_opset(onnx.load(FASTESTDET), OPSET))
    layers = {layer.name: INT8_SAFE16 for layer in inventory(graph) if layer.kind in int8.CARD.kinds}
    model = eight_bits(graph, layers, (3, 352, 352))
    x = np.random.default_rng(1).standard_normal((1, 3, 352, 352), dtype=np.float32)
    (expected,), (found,) = outputs(model, "onnxruntime", x), outputs(model, "engine", x)
    step = np.abs(np.diff(np.unique(expected))).min()
    assert np.abs(found - expected).max() <= 1.01 * step  # codes behind the softmax may fall on either side
    assert (found != expected).mean() < 1e-3
