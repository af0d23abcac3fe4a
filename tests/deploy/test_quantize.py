"""Quantised graphs: their arithmetic against NumPy bit for bit, their grids against arithmetic by hand, their form."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper

from shoestring.core.precision import INT8, INT8_SAFE16, Precision
from shoestring.deploy import runtimes
from shoestring.deploy.normal_form import violations
from shoestring.deploy.quantize import activations, quantise
from shoestring.deploy.rewrite import initialisers, tidy

Build = Callable[..., ModelProto]
Fit = Callable[..., ModelProto]
RNG = np.random.default_rng(0)


def run(model: ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return runtimes.get("onnxruntime").open(model.SerializeToString())(x)


def conv(x: str, weight: str, y: str, **attributes: object) -> NodeProto:
    return helper.make_node("Conv", [x, weight], [y], name=weight.removesuffix(".weight"), **attributes)


def codes_of(model: ModelProto, layers: list[str], x: np.ndarray) -> list[np.ndarray]:
    """What the runtime writes on the quantised edges behind these tensors, as codes."""
    exposed = ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    for layer in layers:
        name = next(n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == layer)
        exposed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, None))
    return run(exposed, x)


# The arithmetic of a quantised convolution (DESIGN 9.1), written again.


def accumulated(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, pads: list[int]) -> np.ndarray:
    """Accumulators [O, H, W] of codes less their zero point [C, H, W] and s8 weights [O, C / groups, kh, kw]. `pads`:
    top, left, bottom, right, with zeros."""
    top, left, bottom, right = pads
    padded = np.pad(x.astype(np.int64), ((0, 0), (top, bottom), (left, right)))
    out, inner, kh, kw = weight.shape
    groups = len(x) // inner
    height, width = (padded.shape[1] - kh) // stride + 1, (padded.shape[2] - kw) // stride + 1
    acc = np.zeros((out, height, width), np.int64)
    for o in range(out):
        first = o // (out // groups) * inner
        for i in range(height):
            for j in range(width):
                window = padded[first : first + inner, i * stride : i * stride + kh, j * stride : j * stride + kw]
                acc[o, i, j] = np.sum(window * weight[o]) + bias[o]
    return acc


def requantised(
    acc: np.ndarray, x_scale: np.ndarray, w_scale: np.ndarray, y_scale: np.ndarray, zero: int
) -> np.ndarray:
    m = (x_scale.astype(np.float32) * w_scale.astype(np.float32)) / y_scale.astype(np.float32)
    assert m.dtype == np.float32
    return np.clip(np.rint(acc.astype(np.float32) * m[:, None, None]) + zero, 0, 255).astype(np.uint8)


CASES = {
    "plain": ((8, 6, 3, 3), 1, 1, [1, 1, 1, 1], "Relu"),
    "pointwise": ((16, 8, 1, 1), 1, 1, [0, 0, 0, 0], ""),
    "stride, asymmetric": ((8, 3, 3, 3), 1, 2, [0, 0, 1, 1], "Clip"),
    "depthwise": ((8, 1, 3, 3), 8, 1, [1, 1, 1, 1], "Clip"),
    "depthwise, stride": ((8, 1, 5, 5), 8, 2, [1, 2, 2, 1], ""),
    "grouped": ((12, 4, 3, 3), 2, 1, [1, 1, 1, 1], "Relu"),
    "odd": ((5, 7, 3, 2), 1, 1, [1, 0, 1, 1], ""),
}


@pytest.mark.parametrize("case", CASES)
def test_arithmetic_is_that_of_the_form_bit_for_bit(build: Build, fit: Fit, case: str) -> None:
    """One convolution between an input's and its output's grid, on ONNX Runtime, against NumPy."""
    shape, groups, stride, pads, activation = CASES[case]
    channels = shape[1] * groups
    constants = {
        "a.weight": RNG.standard_normal(shape, dtype=np.float32),
        "a.bias": RNG.standard_normal(shape[0], dtype=np.float32),
        "b.weight": RNG.standard_normal((2, shape[0], 1, 1), dtype=np.float32),
        "low": np.float32(0),
        "high": np.float32(2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], group=groups, strides=[stride] * 2, pads=pads),
        helper.make_node("Clip", ["a", "low", "high"], ["r"]) if activation == "Clip" else
        helper.make_node(activation or "Identity", ["a"], ["r"]),
        conv("a" if not activation else "r", "b.weight", "y"),
    ]  # fmt: skip
    if not activation:
        del nodes[1]
    sides = [(9 + a + b - k) // stride + 1 for a, b, k in zip(pads[:2], pads[2:], shape[2:], strict=True)]
    model = tidy(build(nodes, constants, [1, channels, 9, 9], [1, 2, *sides]))
    inputs = list(RNG.standard_normal((4, 1, channels, 9, 9), dtype=np.float32) + 0.3)
    quantised = fit(model, {"a": INT8_SAFE16, "b": INT8_SAFE16}, inputs)
    assert not violations(quantised)

    c = initialisers(quantised)
    edge = f"a/{activation.lower()}" if activation else "a"
    assert (c[f"{edge}_zero_point"] == 0) == bool(activation)
    for x in inputs:
        given, got = codes_of(quantised, ["x", edge], x)
        zero, y_zero = int(c["x_zero_point"]), int(c[f"{edge}_zero_point"])
        assert np.array_equal(given, np.clip(np.rint(x / c["x_scale"]) + zero, 0, 255))
        acc = accumulated(given[0] - float(zero), c["a.weight_quantized"], c["a.bias_quantized"], stride, pads)
        expected = requantised(acc, c["x_scale"], c["a.weight_scale"], c[f"{edge}_scale"], y_zero)
        assert np.array_equal(got[0], expected)
        assert np.ptp(expected) > 100  # the case says something
        # The last layer writes its accumulators as floats; the runtime may sum them in float32.
        last = accumulated(expected - float(y_zero), c["b.weight_quantized"], np.zeros(2), 1, [0] * 4)
        last = last * (c[f"{edge}_scale"] * c["b.weight_scale"])[:, None, None]
        assert np.abs(run(quantised, x)[0][0] - last).max() < 1e-5 * np.abs(last).max()


@pytest.mark.parametrize("precision", [INT8, INT8_SAFE16])
def test_grids_are_those_of_the_ranges(build: Build, precision: Precision) -> None:
    weight = np.array([[0.5, -1.0, 0.25, 0.25], [0.9, 0.8, 0.0, -1.5], [0.0, 0.0, 0.0, 0.0]], np.float32)
    constants = {"a.weight": weight[:, :, None, None], "b.weight": np.ones((2, 3, 1, 1), np.float32)}
    nodes = [conv("x", "a.weight", "a"), helper.make_node("Relu", ["a"], ["r"]), conv("r", "b.weight", "y")]
    model = tidy(build(nodes, constants, [1, 4, 4, 4], [1, 2, 4, 4]))
    precisions = {"a": precision, "b": precision}
    assert activations(model, precisions) == ["x", "a/relu", "y"]
    ranges = {"x": (-1.0, 3.0), "a/relu": (0.5, 4.0), "y": (-1.0, 1.0)}
    c = initialisers(quantise(model, ranges, precisions))
    # Activations: 255 steps from low to high; 0 belongs to every range and is a code.
    assert np.isclose(c["x_scale"], 4 / 255, rtol=1e-6) and c["x_zero_point"] == round(255 / 4)
    assert np.isclose(c["a/relu_scale"], 4 / 255, rtol=1e-6) and c["a/relu_zero_point"] == 0
    # Weights: 127 steps to the largest of a channel, or of the sum of two neighbours of one sign.
    largest = np.array([1.0, 1.5 if precision == INT8 else 1.7])
    assert np.allclose(c["a.weight_scale"][:2], largest / 127, rtol=1e-6)
    assert np.array_equal(c["a.weight_quantized"][:2, :, 0, 0], np.rint(weight[:2] / (largest / 127)[:, None]))
    assert not c["a.weight_quantized"][2].any() and not c["a.weight_zero_point"].any()
    assert c["b.weight_quantized"].tolist() == (np.full((2, 3, 1, 1), 127 if precision == INT8 else 64)).tolist()


# Sums of two products in 16 bits.


def vpmaddubsw(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """u8 [..., 2n] times s8 [..., 2n]: neighbours' products added in int16 with saturation (Intel SDM, PMADDUBSW)."""
    products = x.astype(np.int32) * w.astype(np.int32)
    return np.clip(products[..., 0::2] + products[..., 1::2], -(2**15), 2**15 - 1)


def exact(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    products = x.astype(np.int64) * w.astype(np.int64)
    return products[..., 0::2] + products[..., 1::2]


def emitted(build: Build, weight: np.ndarray, precision: Precision) -> np.ndarray:
    """The int8 weights of a convolution [O, I, k, k] in a quantised graph."""
    size = weight.shape[2]
    model = tidy(
        build(
            [conv("x", "a.weight", "y")], {"a.weight": weight}, [1, weight.shape[1], size, size], [1, len(weight), 1, 1]
        )
    )
    ranges = {"x": (0.0, 1.0), "y": (-1.0, 1.0)}
    return initialisers(quantise(model, ranges, {"a": precision}))["a.weight_quantized"]


weights = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 2), st.integers(0, 2**32 - 1), st.booleans())


@settings(max_examples=40)
@given(weights)
def test_safe16_never_saturates(build: Build, drawn: tuple[int, int, int, int, bool]) -> None:
    """Neighbours of one sign add up to 128 steps at most (with odd inputs any two do), so that no activations at all
    can make their products leave 16 bits."""
    outputs, channels, size, seed, even = drawn
    rng = np.random.default_rng(seed)
    shape = (outputs, channels, size, size)
    # Even weights make the worst sums of neighbours, heavy tails the worst roundings.
    weight = rng.choice([-1.0, 1.0, 0.99, 0.5], shape) if even else rng.standard_t(1, shape)
    codes = emitted(build, weight.astype(np.float32), INT8_SAFE16).astype(np.int64)
    assert np.abs(codes).max() <= 127
    flat = codes.transpose(0, 2, 3, 1).reshape(outputs, -1)  # as im2col lays it out: channels innermost
    if channels % 2:
        pairs = [(row[i], row[j]) for row in flat for i in range(len(row)) for j in range(i)]
    else:
        pairs = [(row[i], row[i + 1]) for row in flat for i in range(0, len(row), 2)]
    two = np.array(pairs, np.int64).reshape(-1, 2)
    alike = two[two[:, 0] * two[:, 1] > 0]
    assert np.abs(alike.sum(axis=1)).max(initial=0) <= 128
    for x in (np.where(two > 0, 255, 0), np.where(two < 0, 255, 0), np.full_like(two, 255)):  # the extremes of all x
        assert np.array_equal(vpmaddubsw(x, two), exact(x, two))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_safe16_uses_the_range_it_has(build: Build, seed: int) -> None:
    """A channel's largest pair, or its largest weight, reaches the bound but for rounding."""
    weight = np.random.default_rng(seed).standard_normal((3, 8, 2, 2), dtype=np.float32)
    codes = emitted(build, weight, INT8_SAFE16).astype(np.int64)
    pairs = [np.maximum(sign * codes, 0) for sign in (1, -1)]
    sums = np.max([(p[:, 0::2] + p[:, 1::2]).max(axis=(1, 2, 3)) for p in pairs], axis=0)
    assert sums.min() >= 126


def test_the_full_range_does_saturate(build: Build) -> None:
    weight = np.ones((1, 2, 1, 1), np.float32)
    x = np.array([255, 255])
    full, safe = (emitted(build, weight, precision)[:, :, 0, 0] for precision in (INT8, INT8_SAFE16))
    assert vpmaddubsw(x, full).item() == 2**15 - 1 != exact(x, full).item() == 2 * 127 * 255
    assert vpmaddubsw(x, safe).item() == exact(x, safe).item() == 2 * 64 * 255


def test_safe16_of_linear_layers_pairs_their_inputs(build: Build) -> None:
    """Whichever way the weight is stored."""
    weight = np.array([[1, 1, 0, 0], [0, 1, -1, 0]], np.float32)  # [out, in]: one pair of neighbours, none
    for node, stored in (
        (helper.make_node("Gemm", ["x", "a.weight"], ["y"], transB=1), weight),
        (helper.make_node("Gemm", ["x", "a.weight"], ["y"]), weight.T),
        (helper.make_node("MatMul", ["x", "a.weight"], ["y"]), weight.T),
    ):
        model = tidy(build([node], {"a.weight": np.ascontiguousarray(stored)}, [1, 4], [1, 2]))
        quantised = quantise(model, {"x": (0.0, 1.0), "y": (-1.0, 1.0)}, {"a": INT8_SAFE16})
        assert not violations(quantised)
        codes = initialisers(quantised)["a.weight_quantized"]
        codes = codes if stored is weight else codes.T
        assert codes.tolist() == [[64, 64, 0, 0], [0, 127, -127, 0]]
