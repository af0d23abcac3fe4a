"""Learned grids in a file: the arithmetic against NumPy bit for bit, and that runtimes really compute in integers."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.core.grid import Grid
from shoestring.deploy import parity, runtimes
from shoestring.deploy.export import export
from shoestring.deploy.learned import realise
from shoestring.deploy.matmul_nbits import lower
from shoestring.deploy.normal_form import require, violations
from shoestring.deploy.rewrite import initialisers
from shoestring.graph.marker import MARKER

Build = Callable[..., ModelProto]
RNG = np.random.default_rng(0)


def grid(shape: tuple[int, ...], bits: int, seed: int = 0) -> Grid:
    """Random codes whose neighbours' products with u8 add up within 16 bits."""
    rng, largest = np.random.default_rng(seed), min(63, 2 ** (bits - 1) - 1)
    codes = rng.integers(-min(largest + 1, 63), largest + 1, shape).astype(np.int8)
    return Grid(codes, (rng.uniform(0.2, 0.3, shape[0]) / largest).astype(np.float32), bits)


class Network:
    """Nodes and constants of a float graph whose edges carry grids, written as the exporter writes it."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.grids: dict[str, Grid] = {}

    def edge(self, x: str, y: str, scale: float, zero: int = 0, bounds: tuple[int, int] | None = None) -> None:
        """`y` is `x` on a grid; codes within `bounds`."""
        self.constants |= {f"{y}.scale": np.float32(scale), f"{y}.zero": np.uint8(zero)}
        grid, codes = [f"{y}.scale", f"{y}.zero"], f"{y}.codes"
        self.nodes.append(helper.make_node("QuantizeLinear", [x, *grid], [codes], name=f"{y}/quantize"))
        if bounds:
            self.constants |= {f"{y}.low": np.uint8(bounds[0]), f"{y}.high": np.uint8(bounds[1])}
            made = [codes, f"{y}.low", f"{y}.high"]
            self.nodes.append(helper.make_node("Clip", made, [f"{y}.few"], name=f"{y}/clip"))
            codes = f"{y}.few"
        self.nodes.append(helper.make_node("DequantizeLinear", [codes, *grid], [y], name=f"{y}/dequantize"))

    def layer(self, x: str, y: str, grid: Grid, bias: np.ndarray | None, op: str = "Conv", **settings: object) -> None:
        """The layer `y`; the weight as that operator wants it."""
        transposed = op == "MatMul" or (op == "Gemm" and not settings.get("transB"))
        self.constants[f"{y}.weight"] = np.ascontiguousarray(grid.values.T) if transposed else grid.values
        inputs = [x, f"{y}.weight"]
        if bias is not None:
            self.constants[f"{y}.bias"] = bias
            inputs.append(f"{y}.bias")
        self.nodes.append(helper.make_node(op, inputs, [y], name=y, **settings))
        self.grids[y] = grid


CASES: dict[str, tuple[int, int, tuple[int, int] | None, str]] = {
    "8 bits": (8, 0, None, "Relu"),
    "4 bits": (4, 0, (0, 15), "Relu"),
    "3 bits, offset": (3, 3, (0, 7), ""),
    "2 bits, shifted": (2, 126, (126, 129), ""),
    "8 bits, relu6": (8, 0, None, "Clip"),
    "4 bits, relu6": (4, 0, (0, 15), "Clip"),
    "relu with a zero point": (5, 4, (0, 31), "Relu"),
}


def two_layers(case: str, groups: int = 1) -> Network:
    """x -> grid -> a -> activation -> grid -> b: [1, 8, 9, 9] to [1, 4, 9, 9]."""
    bits, zero, bounds, activation = CASES[case]
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    net.layer("x8", "a", grid((8, 8 // groups, 3, 3), bits), RNG.normal(0, 0.1, 8).astype(np.float32),
              pads=[1, 1, 1, 1], group=groups)  # fmt: skip
    net.constants |= {"low": np.float32(0), "high": np.float32(0.5)}
    if activation:
        bound = ["low", "high"] if activation == "Clip" else []
        net.nodes.append(helper.make_node(activation, ["a", *bound], ["r"], name="a/activation"))
    step = (1.0 if activation == "Clip" or groups > 1 else 2.0) / (bounds[1] - bounds[0] if bounds else 255)
    net.edge("r" if activation else "a", "edge", step, zero, bounds)
    net.layer("edge", "y", grid((4, 8, 1, 1), bits, 1), None)
    return net


def made(build: Build, net: Network, x: list[int], y: list[int]) -> ModelProto:
    return build(net.nodes, net.constants, x, y)


def exposed(model: ModelProto, tensors: Mapping[str, int]) -> ModelProto:
    """`model` with these tensors as outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in tensors.items())
    return copy


def convolved(codes: np.ndarray, weight: np.ndarray, groups: int = 1) -> np.ndarray:
    """Accumulators [O, H, W] of codes less their zero point [C, H, W] and weights [O, C / groups, k, k], same size."""
    out, inner, size, _ = weight.shape
    padded = np.pad(codes.astype(np.int64), ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    parts = windows.reshape(groups, inner, *windows.shape[1:])
    filters = weight.astype(np.int64).reshape(groups, -1, inner, size, size)
    return np.einsum("gihwkl,goikl->gohw", parts, filters).reshape(out, *codes.shape[1:])


def stored(model: ModelProto, layer: str, grid: Grid, reads: int, pairs: bool = True) -> Grid:
    """The codes and scales in the file: exactly the grid's values, the codes moved up as far as a byte goes and, with
    `pairs`, as far as two products with codes up to `reads` fit 16 bits."""
    constants = initialisers(model)
    codes, scales = (constants[f"{layer}.weight_{part}"] for part in ("quantized", "scale"))
    if codes.shape != grid.codes.shape:
        codes = codes.T
    factor = int(np.abs(codes.astype(int)).max() // np.abs(grid.codes.astype(int)).max())
    assert factor in (1, 2, 4, 8, 16, 32, 64)
    assert np.array_equal(codes.astype(int), grid.codes.astype(int) * factor)
    assert np.array_equal(scales * np.float32(factor), grid.scales)

    def fits(by: int) -> bool:
        wide = grid.codes.astype(int) * by
        sums = [
            np.abs(part[:, 0::2] + part[:, 1::2]).max()
            for part in (np.maximum(wide, 0), np.minimum(wide, 0))
            if pairs and wide.shape[1] % 2 == 0
        ]
        return -128 <= wide.min() <= wide.max() <= 127 and max(sums, default=0) * reads < 2**15

    assert fits(factor) or factor == 1
    assert not fits(2 * factor)
    return Grid(codes, scales, grid.bits)


def last_codes(model: ModelProto) -> str:
    """The codes that the second layer reads."""
    return next(n.input[0] for n in model.graph.node if n.name == "edge/dequantize")


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("case", CASES)
def test_the_file_computes_what_was_trained_bit_for_bit(build: Build, case: str, groups: int) -> None:
    """acc in int32; m = float32(float32(s_x * s_w) / s_y); round to even; bounds. On OpenVINO within a step."""
    _, zero, bounds, activation = CASES[case]
    net = two_layers(case, groups)
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), net.grids)
    assert not violations(model)
    low, high = bounds or (0, 255)
    y_scale, x_scale = net.constants["edge.scale"], net.constants["x8.scale"]
    if activation:
        low = max(low, zero)
        high = min(high, int(np.rint(np.float32(0.5) / y_scale)) + zero) if activation == "Clip" else high
    weight = stored(model, "a", net.grids["a"], 255, pairs=groups == 1)
    stored(model, "y", net.grids["y"], bounds[1] if bounds else 255)
    scale = x_scale * weight.scales
    assert scale.dtype == np.float32
    bias = np.rint(net.constants["a.bias"].astype(np.float64) / scale.astype(np.float64))
    sessions = {
        name: runtimes.get(name).open(
            exposed(model, {last_codes(model): TensorProto.UINT8}).SerializeToString(), precision="fp32"
        )
        for name in runtimes.installed()
    }
    for x in RNG.normal(0, 0.6, (3, 1, 8, 9, 9)).astype(np.float32):
        codes = np.clip(np.rint(x[0] / x_scale) + 120, 0, 255) - 120
        acc = convolved(codes, weight.codes, groups) + bias[:, None, None]
        m = (scale / y_scale)[:, None, None]
        expected = np.clip(np.rint(acc.astype(np.float32) * m) + zero, low, high)
        assert len(np.unique(expected)) >= min(4, high - low + 1)  # the case says something
        output = convolved(expected - zero, net.grids["y"].codes) * (y_scale * net.grids["y"].scales)[:, None, None]
        for name, session in sessions.items():
            y, got = session(x)
            steps = np.abs(got[0].astype(int) - expected)
            assert steps.max() <= (0 if name == "onnxruntime" else 1) and steps.mean() < 1e-3, name
            if not steps.any():
                assert np.abs(y[0] - output).max() < 1e-5 * np.abs(output).max()


@pytest.mark.parametrize("most", [0, 1])
def test_codes_move_up_no_further_than_asked(build: Build, most: int) -> None:
    net = two_layers("4 bits")
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), net.grids, {"a": most})
    constants = initialisers(model)
    np.testing.assert_array_equal(constants["a.weight_quantized"], net.grids["a"].codes << most)
    stored(model, "y", net.grids["y"], 15)  # of which nothing was said: as far as it goes


def optimised(model: ModelProto, path: str) -> list[str]:
    """The operators that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = path, 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("case", CASES)
def test_onnxruntime_executes_integers(build: Build, case: str, tmp_path: object) -> None:
    """One integer convolution, then a Clip of its codes where there is one; the second layer writes floats."""
    net = two_layers(case)
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), net.grids)
    operators = optimised(model, f"{tmp_path}/optimised.onnx")
    assert operators.count("QLinearConv") == 1 and not {"FusedConv", "Relu"} & set(operators)
    assert operators.count("Clip") == sum(node.op_type == "Clip" for node in model.graph.node) <= 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("runtime", runtimes.installed())
def test_the_parity_gate_lets_it_pass(build: Build, case: str, runtime: str) -> None:
    net = two_layers(case)
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), net.grids)
    inputs = list(RNG.normal(0, 0.6, (4, 1, 8, 9, 9)).astype(np.float32))
    compared = parity.compare(model, runtime, inputs)
    parity.gate(compared)
    assert [edge.layer for edge in compared.edges] == ["x8/quantize", "a", "y"]


def residual() -> Network:
    """x -> a -> 8-bit edge, which an Add reads as it is and a convolution on a grid of 4 bits behind it. No code lies
    half-way between two of the second grid, where runtimes may differ: OpenVINO multiplies by 1 / 0.29."""
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    net.layer("x8", "a", grid((8, 8, 3, 3), 4), None, pads=[1] * 4)
    net.edge("a", "wide", 0.03, 128)
    net.edge("wide", "few", 0.29, 7, (0, 15))
    net.layer("few", "b", grid((8, 8, 1, 1), 4, 1), np.ones(8, np.float32))
    net.edge("b", "branch", 0.03, 128)
    net.nodes.append(helper.make_node("Add", ["wide", "branch"], ["sum"], name="sum"))
    net.edge("sum", "last", 0.05, 128)
    net.layer("last", "y", grid((4, 8, 1, 1), 4, 2), None)
    return net


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_grids_one_behind_the_other(build: Build, runtime: str, tmp_path: object) -> None:
    """Each reader keeps its integer kernel, and reads the codes that NumPy computes from the codes before."""
    net = residual()
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), net.grids)
    assert not violations(model)
    operators = optimised(model, f"{tmp_path}/optimised.onnx")
    assert (operators.count("QLinearConv"), operators.count("QLinearAdd"), operators.count("Add")) == (2, 1, 0)
    inputs = list(RNG.normal(0, 0.6, (3, 1, 8, 9, 9)).astype(np.float32))
    compared = parity.compare(model, runtime, inputs)
    parity.gate(compared)
    assert [e.layer for e in compared.edges] == ["x8/quantize", "a", "few/quantize", "b", "sum", "y"]

    edges = exposed(model, {"wide.codes": TensorProto.UINT8, "few.few": TensorProto.UINT8})
    for x in inputs:
        _, wide, few = runtimes.get(runtime).open(edges.SerializeToString())(x)
        values = (wide.astype(np.float32) - 128) * np.float32(0.03)
        expected = np.clip(np.rint(values / np.float32(0.29)) + 7, 0, 15)
        assert np.abs(few - expected).max() <= (runtime != "onnxruntime") and np.abs(few - expected).mean() < 1e-3
        assert len(np.unique(expected)) > 8


LINEAR = {"Gemm": {"transB": 1}, "Gemm, not transposed": {}, "MatMul": {}}


@pytest.mark.parametrize("case", LINEAR)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_linear_layers(build: Build, case: str, bits: int, tmp_path: object) -> None:
    operator = case.partition(",")[0]
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    bias = None if operator == "MatMul" else RNG.normal(0, 1, 5).astype(np.float32)
    net.layer("x8", "y", grid((5, 12), bits), bias, operator, **LINEAR[case])
    model = realise(made(build, net, [2, 12], [2, 5]), net.grids)
    assert not violations(model)
    assert {t.data_type for t in model.graph.initializer if list(t.dims) in ([5, 12], [12, 5])} == {TensorProto.INT8}
    assert {"QGemm", "MatMulIntegerToFloat"} & set(optimised(model, f"{tmp_path}/optimised.onnx"))
    x = RNG.normal(0, 1, (2, 12)).astype(np.float32)
    codes = np.clip(np.rint(x / np.float32(0.02)) + 120, 0, 255) - 120
    weight = stored(model, "y", net.grids["y"], 255)
    expected = codes @ weight.codes.T.astype(float)
    scale = np.float32(0.02) * weight.scales
    expected = (expected + (0 if bias is None else np.rint(bias / scale))) * scale
    for name in runtimes.installed():
        got = runtimes.get(name).open(model.SerializeToString())(x)[0]
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max(), name


def test_a_layer_called_twice_has_one_weight_and_a_bias_for_each_input(build: Build) -> None:
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    net.layer("x8", "a", grid((4, 4, 3, 3), 4), np.ones(4, np.float32), pads=[1] * 4)
    net.edge("a", "again", 0.1, 100)
    net.nodes.append(helper.make_node("Conv", ["again", "a.weight", "a.bias"], ["y"], name="a:2", pads=[1] * 4))
    model = realise(made(build, net, [1, 4, 5, 5], [1, 4, 5, 5]), net.grids)
    assert not violations(model)
    constants = initialisers(model)
    assert sum(value.dtype == np.int8 and value.ndim == 4 for value in constants.values()) == 1
    for node, scale in (("a", 0.02), ("a:2", 0.1)):
        step = np.float32(scale) * stored(model, "a", net.grids["a"], 255).scales
        assert np.array_equal(constants[f"{node}.bias_quantized"], np.rint(1 / step.astype(float)))
    parity.gate(parity.compare(model, "onnxruntime", [RNG.normal(0, 0.6, (1, 4, 5, 5)).astype(np.float32)]))


def test_float_layers_stay_float(build: Build, tmp_path: object) -> None:
    """ONNX Runtime would quantise the weights of a float layer between two grids on its own."""
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    net.layer("x8", "a", grid((8, 8, 3, 3), 8), None, pads=[1] * 4)
    net.edge("a", "middle", 0.02, 128)
    net.layer("middle", "b", grid((4, 8, 1, 1), 8, 1), None)
    net.edge("b", "last", 0.02, 128)
    net.nodes.append(helper.make_node("Relu", ["last"], ["y"], name="relu"))
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), {"a": net.grids["a"]})
    assert not violations(model)
    assert [n.input[0] for n in model.graph.node if n.op_type == "Sum"] == ["middle"]
    assert "Conv" in optimised(model, f"{tmp_path}/optimised.onnx")
    x = RNG.normal(0, 0.6, (1, 8, 9, 9)).astype(np.float32)
    parity.gate(parity.compare(model, "onnxruntime", [x]))


def test_channels_that_are_switched_off_keep_their_bias(build: Build) -> None:
    """Batch norm leaves weights near 0 with a bias of ordinary size, too many steps for 32 bits."""
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    scales = np.array([1e-20, 1e-3, 1e-12], np.float32)
    net.layer("x8", "y", Grid(grid((3, 4, 1, 1), 4).codes, scales, 4), np.array([3, 1, -5], np.float32))
    model = realise(made(build, net, [1, 4, 5, 5], [1, 3, 5, 5]), net.grids)
    assert not violations(model)
    assert np.abs(initialisers(model)["y.bias_quantized"].astype(int)).max() <= 2**30
    x = RNG.normal(0, 0.6, (1, 4, 5, 5)).astype(np.float32)
    y = runtimes.get("onnxruntime").open(model.SerializeToString())(x)[0][0]
    assert np.allclose(y[0], 3, atol=1e-5) and np.allclose(y[2], -5, atol=1e-5) and np.ptp(y[1]) > 0


def test_nothing_learned_changes_nothing(build: Build) -> None:
    net = two_layers("4 bits")
    model = realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), {})
    assert {n.op_type for n in model.graph.node} == {"QuantizeLinear", "Clip", "DequantizeLinear", "Sum", "Conv"}


_MORE = np.float32(1.01)
REFUSED: dict[str, tuple[str, Callable[[Grid], Grid]]] = {
    "its codes go beyond 2 bits, which hold -2..1": ("a", lambda g: replace(g, bits=2)),
    "2 to 8 bits and float32 scales, not 9 bits": ("a", lambda g: replace(g, bits=9)),
    "2 to 8 bits and float32 scales, not 1 bits": ("a", lambda g: replace(g, bits=1)),
    "a grid has int8 codes": ("a", lambda g: replace(g, codes=g.codes.astype(np.int16))),
    "and float32 scales": ("a", lambda g: replace(g, scales=g.scales.astype(float))),
    "a scale is not positive": ("a", lambda g: replace(g, scales=-g.scales)),
    r"the grid is \[8, 8, 3\] where the graph's weight is \[8, 8, 3, 3\]": (
        "a",
        lambda g: replace(g, codes=g.codes[..., 0]),
    ),
    "the graph's weight is not the grid's codes times scales": ("a", lambda g: replace(g, scales=g.scales * _MORE)),
    "other: the graph has no convolution or linear layer of this name": ("other", lambda g: g),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_grids_that_do_not_belong_are_refused(build: Build, why: str) -> None:
    net, (layer, change) = two_layers("4 bits"), REFUSED[why]
    model = made(build, net, [1, 8, 9, 9], [1, 4, 9, 9])
    with pytest.raises(BadInput, match=why) as refused:
        realise(model, {layer: change(net.grids["a"])})
    assert "\n" not in str(refused.value) and str(refused.value).startswith(f"{layer}: ")


def test_layers_that_read_floats_or_compute_more_are_refused(build: Build) -> None:
    net = Network()
    net.layer("x", "y", grid((4, 8, 1, 1), 4), None)
    with pytest.raises(BadInput, match="y: its weight is quantised, what it reads is not"):
        realise(made(build, net, [1, 8, 9, 9], [1, 4, 9, 9]), net.grids)
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    net.layer("x8", "y", grid((4, 8), 4), None, "Gemm", transB=1, alpha=2.0)
    with pytest.raises(BadInput, match="y: has an alpha"):
        realise(made(build, net, [1, 8], [1, 4]), net.grids)
    net = Network()
    net.edge("x", "x8", 0.02, 120)
    net.layer("x8", "y", grid((4, 8), 4), np.float32([[1]]), "Gemm", transB=1)
    with pytest.raises(BadInput, match="y: its bias is not one constant for each output"):
        realise(made(build, net, [1, 8], [1, 4]), net.grids)


class Trained(nn.Module):
    """A small network as a method bakes it: weights on their grids, activations through the marker. Biases are whole
    steps of the accumulators, which are coarse at few bits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.relu6 = nn.ReLU6()
        self.grids = {"stem": grid((8, 3, 3, 3), 8), "head": grid((5, 8), 4)}
        reads = {"stem": np.float32(0.02), "head": np.float32(0.11)}
        with torch.no_grad():
            for name, made in self.grids.items():
                layer, steps = self.get_submodule(name), torch.from_numpy(made.scales * reads[name])
                layer.weight.copy_(torch.from_numpy(made.values))
                layer.bias.copy_((layer.bias / steps).round() * steps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu6(self.stem(MARKER(x, 0.02, 120, 0, 255)))
        x = MARKER(x, 0.25, 0, 0, 15).mean((2, 3))
        return self.head(MARKER(x, 0.11, 0, 0, 15))


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_what_the_exporter_writes(runtime: str, tmp_path: object) -> None:
    torch.manual_seed(0)
    model = Trained().eval()
    file = realise(export(model, (3, 8, 8)), model.grids)
    require(file)
    assert "QLinearConv" in optimised(file, f"{tmp_path}/optimised.onnx")
    inputs = list(RNG.normal(0, 1.5, (4, 1, 3, 8, 8)).astype(np.float32))
    parity.gate(parity.compare(file, runtime, inputs))
    low = lower(file, {"head": 4}, runtime)
    require(low)
    parity.gate(parity.compare(low, runtime, inputs))
    for x in inputs:
        expected = model(torch.from_numpy(x)).detach().numpy()
        for graph, allowed in ((file, 1e-4), (low, 0.02)):  # the second rounds what it reads
            got = runtimes.get(runtime).open(graph.SerializeToString())(x)[0]
            assert np.abs(got - expected).max() < allowed * np.abs(expected).max()
