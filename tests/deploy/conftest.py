"""What the tests of this room share."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from torch import Tensor, nn

from shoestring.core.precision import FLOAT, INT8_SAFE16, Precision
from shoestring.deploy.calibrate import Range, histograms, min_max
from shoestring.deploy.export import export
from shoestring.deploy.quantize import activations, quantise
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.models.point_mlp import PointMLP

Build = Callable[..., ModelProto]


@pytest.fixture(scope="session")
def classifier() -> ModelProto:
    """[1, 3, 8, 8] to 5 logits: convolution, ReLU, global pooling, Gemm; opset 21, IR 10. Do not change it, copy it."""
    rng = np.random.default_rng(0)
    tensors = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(4, np.float32),
        "head": rng.standard_normal((5, 4)).astype(np.float32),
        "offset": np.arange(5, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "head", "offset"], ["y"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def build() -> Build:
    """`build(nodes, constants, x, y, opset=21)`: a model from input "x" to output "y" of these shapes."""

    def make(
        nodes: Sequence[NodeProto],
        constants: Mapping[str, np.ndarray],
        x: Sequence[int | str],
        y: Sequence[int | str],
        opset: int = 21,
    ) -> ModelProto:
        graph = helper.make_graph(
            nodes,
            "built",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        checker.check_model(model)
        return model

    return make


@pytest.fixture(scope="session")
def drawn_out(build: Build) -> ModelProto:
    """[1, 16, 64, 64] to the same: 40 quantised 3x3 convolutions in a row, some milliseconds in all."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray | np.generic] = {"s": np.float32(0.03), "z": np.uint8(128)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q0"])]
    for at in range(40):
        constants[f"w{at}"] = rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
        constants |= {f"ws{at}": np.full(16, 1.1e-3, np.float32), f"wz{at}": np.zeros(16, np.int8)}
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{at}", "s", "z"], [f"d{at}"]),
            helper.make_node("DequantizeLinear", [f"w{at}", f"ws{at}", f"wz{at}"], [f"v{at}"], axis=0),
            helper.make_node("Conv", [f"d{at}", f"v{at}"], [f"c{at}"], name=f"conv{at}", pads=[1, 1, 1, 1]),
            helper.make_node("QuantizeLinear", [f"c{at}", "s", "z"], [f"q{at + 1}"]),
        ]
    nodes.append(helper.make_node("DequantizeLinear", ["q40", "s", "z"], ["y"]))
    return build(nodes, constants, [1, 16, 64, 64], [1, 16, 64, 64])


class _Network(nn.Module):
    """[3, 16, 16] to 5 logits: what our form has rules for, in one small network."""

    def __init__(self) -> None:
        super().__init__()
        pad = nn.ZeroPad2d((0, 1, 0, 1))  # more on the right and at the bottom
        self.stem = nn.Sequential(pad, nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.reduce, self.expand = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.grouped, self.mix = nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.Conv2d(12, 16, 1)
        self.swish, self.relu, self.head = nn.SiLU(), nn.ReLU(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(x))
        x = x * torch.sigmoid(self.expand(self.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        x = self.relu(self.mix(self.swish(self.grouped(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """Convolutions (asymmetric padding, depthwise, grouped), batch norm, ReLU6, a residual sum, squeeze-excite, swish,
    global means, linear; captured and folded. Do not change it."""
    torch.manual_seed(0)
    model = _Network()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(), module.running_var.uniform_(0.5, 2.0)
    return fold(capture(model.eval(), (3, 16, 16)))


@pytest.fixture(scope="session")
def floats(network: nn.Module) -> ModelProto:
    """`network` as an ONNX graph. Do not change it, copy it."""
    return export(network, (3, 16, 16))


@pytest.fixture(scope="session")
def inputs() -> list[np.ndarray]:
    """Eight inputs of `network`."""
    return list(np.random.default_rng(0).standard_normal((8, 1, 3, 16, 16), dtype=np.float32))


LAYERS = ("stem.1", "depthwise.0", "project.0", "reduce", "expand", "grouped", "mix", "head")


@pytest.fixture(scope="session")
def precisions() -> dict[str, Precision]:
    """8 bits for every layer of `network`."""
    return dict.fromkeys(LAYERS, INT8_SAFE16)


Fit = Callable[[ModelProto, Mapping[str, Precision], Sequence[np.ndarray]], ModelProto]


@pytest.fixture(scope="session")
def fit() -> Fit:
    """`fit(model, precisions, inputs)`: quantised over all that these inputs reach."""

    def make(model: ModelProto, precisions: Mapping[str, Precision], inputs: Sequence[np.ndarray]) -> ModelProto:
        found = histograms(model, activations(model, precisions), lambda: inputs)
        ranges: dict[str, Range] = {name: min_max(histogram) for name, histogram in found.items()}
        return quantise(model, ranges, precisions)

    return make


@pytest.fixture(scope="session")
def quantised(floats: ModelProto, precisions: dict[str, Precision], inputs: list[np.ndarray], fit: Fit) -> ModelProto:
    """`floats` in 8 bits throughout. Do not change it, copy it."""
    return fit(floats, precisions, inputs)


@pytest.fixture(scope="session")
def mixed(floats: ModelProto, precisions: dict[str, Precision], inputs: list[np.ndarray], fit: Fit) -> ModelProto:
    """`floats` in 8 bits but for two layers between integer ones. Do not change it, copy it."""
    return fit(floats, precisions | {"depthwise.0": FLOAT, "mix": FLOAT}, inputs)


@pytest.fixture(scope="session")
def clouds() -> list[np.ndarray]:
    """Six inputs of `on_points`."""
    return list(np.random.default_rng(0).uniform(-1, 1, (6, 1, 64, 3)).astype(np.float32))


@pytest.fixture(scope="session")
def on_points() -> ModelProto:
    """[1, 64, 3] to 3 logits: samples, groups, takes; its batch norms have seen data. Do not change it, copy it."""
    torch.manual_seed(0)
    model = PointMLP(3, width=8, neighbours=4, points=64).train()
    with torch.no_grad():
        model(torch.rand(8, 64, 3) * 2 - 1)
    return export(fold(capture(model.eval(), (64, 3))), (64, 3))


@pytest.fixture(scope="session")
def on_points8(on_points: ModelProto, clouds: list[np.ndarray], fit: Fit) -> ModelProto:
    """`on_points` in 8 bits throughout. Do not change it, copy it."""
    layers = [node.name for node in on_points.graph.node if node.op_type in ("Conv", "Gemm")]
    return fit(on_points, dict.fromkeys(layers, INT8_SAFE16), clouds[:4])
