"""What is refused, by node name and reason; and that fused ops compute what their parts do."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from shoestring.core.errors import BadInput
from shoestring.engine import reference
from shoestring.engine.lower import lower

Draw = Callable[..., Any]
Fault = Callable[[Any], str]


def conv(drawing: Any, **changes: Any) -> str:
    """A convolution called conv6 whose weight and bias have something changed."""
    x = drawing.edge("x", 0.05, 120)
    made = str(drawing.conv(x, 4, 6, 3, 3, **{k: v for k, v in changes.items() if k not in ("weight", "bias")}))
    for position, key in ((1, "weight"), (2, "bias")):
        node = drawing.made(drawing.made(made).input[position])
        for index, change in changes.get(key, {}).items():
            drawing.constants[node.input[index]] = change(drawing.constants[node.input[index]])
    return made


def float_weight(drawing: Any) -> str:
    return str(drawing.one("Conv", drawing.edge("x"), drawing.constant(np.ones((4, 6, 3, 3)))))


def float_input(drawing: Any) -> str:
    return str(drawing.one("Conv", "x", drawing.weight((4, 6, 3, 3))))


def signed(drawing: Any) -> str:
    return str(drawing.one("QuantizeLinear", "x", drawing.constant(0.1), drawing.constant(0, np.int8)))


def per_channel(drawing: Any) -> str:
    zeros = drawing.constant(np.zeros(6), np.uint8)
    return str(drawing.one("QuantizeLinear", "x", drawing.constant(np.ones(6)), zeros, axis=1))


def float_weight_quantised_here(drawing: Any) -> str:
    return str(drawing.edge(drawing.constant(np.ones((4, 4)))))


def channel_numbers(drawing: Any) -> str:
    return str(drawing.one("Mul", drawing.edge("x"), drawing.constant(np.ones((6, 1, 1)))))


def swish_into_sum(drawing: Any) -> str:
    x = drawing.edge("x")
    y = drawing.edge(drawing.conv(x, 6, 6, 1, 1), 0.3, 100)
    return str(drawing.one("Add", drawing.one("Mul", y, drawing.one("Sigmoid", y)), x))


FAULTS: list[tuple[Fault, str]] = [
    (lambda d: d.one("Einsum", d.edge("x"), equation="abcd->abcd"), r"einsum2 \(Einsum\): .*no such operator"),
    (lambda d: conv(d, weight={2: lambda old: old + np.int8(1)}), "zero point other than 0"),
    (
        lambda d: conv(d, weight={0: lambda old: old.view(np.uint8), 2: lambda old: old.view(np.uint8)}),
        "uint8, not int8",
    ),
    (lambda d: conv(d, weight={1: lambda old: old[:2], 2: lambda old: old[:2]}), "2 scales along axis 0"),
    (lambda d: conv(d, bias={1: lambda old: old * 2}), "bias has another scale"),
    (lambda d: conv(d, bias={0: lambda old: old.astype(np.int8)}), "not stored as int32"),
    (lambda d: conv(d, group=2), "2 groups do not fit"),
    (lambda d: conv(d, pads=[-1, 0, 0, 0]), "negative padding"),
    (lambda d: d.conv(d.edge("x"), 4, 6, 30, 30), "larger than what it reads"),
    (float_weight, "weight is not quantised"),
    (float_input, "what it reads is not quantised"),
    (signed, "not int8 with float32"),
    (per_channel, "one constant scale"),
    (float_weight_quantised_here, "weight is quantised at run time"),
    (channel_numbers, "is not one number"),
    (swish_into_sum, "float function stands between"),
    (lambda d: d.edge("x", 0.0), "its scale is 0.0"),
    (lambda d: d.edge("x", float("nan")), "its scale is nan"),
    (lambda d: d.one("Reshape", d.edge("x"), d.constant([4, -1], np.int64)), "first axis must be the batch"),
    (lambda d: d.one("Reshape", d.edge("x"), d.constant([7, -1], np.int64)), "batch baked in"),
    (lambda d: d.one("Resize", d.edge("x"), "", d.constant([1, 1, 1.5, 2.0]), mode="nearest"), "not whole"),
    (lambda d: d.one("Resize", d.edge("x"), "", d.constant([1, 1, 2.0, 2.0]), mode="linear"), "only nearest"),
    (lambda d: d.one("Gather", d.edge("x"), d.constant([0, 1, 3], np.int64), axis=1), "evenly spaced"),
    (lambda d: d.one("Gather", d.edge("x"), d.constant([9], np.int64), axis=1), "beyond 6 elements"),
    (lambda d: d.one("Pad", d.edge("x"), d.constant([0, 0, 1, 1] * 2, np.int64), mode="reflect"), "only padding"),
    (lambda d: d.one("Concat", d.edge("x"), d.edge("x"), axis=0), "joins images"),
    (lambda d: d.one("Relu", d.conv(d.edge("x"), 4, 6, 1, 1)), "needed in floats"),
    (lambda d: d.one("AveragePool", d.edge("x"), kernel_shape=[2, 2], dilations=[2, 2]), "mean with dilation"),
    (lambda d: d.one("MaxPool", d.edge("x"), kernel_shape=[2, 2], pads=[2, 2, 2, 2]), "in the padding altogether"),
    (lambda d: d.one("Transpose", d.edge("x"), perm=[0, 9, 1, 2]), r"\(Transpose\): it is malformed"),
    (lambda d: d.conv(d.edge("x"), 4, 6, 1, 1, strides=[0, 0]), "malformed"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_what_is_refused(draw: Draw, fault: Fault, reason: str) -> None:
    drawing = draw(1, 6, 8, 8)
    y = fault(drawing)
    with pytest.raises(BadInput, match=reason) as raised:
        lower(drawing.model(y))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dims", [[1, 6, "height", 8], [1], []])
def test_inputs_of_unknown_shape_are_refused(draw: Draw, dims: list[Any]) -> None:
    drawing = draw(*dims)
    with pytest.raises(BadInput, match="known shape"):
        lower(drawing.model(drawing.edge("x")))


def test_an_open_batch_is_taken_image_by_image(draw: Draw) -> None:
    drawing = draw("batch", 6, 8, 8)
    program = lower(drawing.model(drawing.edge(drawing.conv(drawing.edge("x"), 4, 6, 1, 1), 0.3, 100)))
    assert reference.run(program, np.zeros((5, 6, 8, 8), np.float32))[0].shape == (5, 4, 8, 8)


def test_codes_can_be_the_input(draw: Draw) -> None:
    drawing = draw(1, 6, 8, 8)
    x = drawing.one("DequantizeLinear", "x", drawing.constant(0.05), drawing.constant(120, np.uint8))
    model = drawing.model(drawing.edge(drawing.conv(x, 4, 6, 1, 1), 0.3, 100), dtype=TensorProto.UINT8)
    assert [type(op).__name__ for op in lower(model).ops] == ["Conv", "Dequantise"]


@pytest.mark.parametrize("seed", range(20))
def test_fusing_changes_nothing(draw: Draw, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    model = network(draw(1, 4, 7, 6, seed=seed))
    x = np.random.default_rng(seed).uniform(-6, 6, (2, 4, 7, 6)).astype(np.float32)
    fused = lower(model)
    monkeypatch.setattr(import_module("shoestring.engine.lower"), "fused", lambda ops, *_: ops)
    plain = lower(model)
    assert len(fused.ops) < len(plain.ops)
    for got, wanted in zip(reference.run(fused, x), reference.run(plain, x), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_against_onnxruntime(draw: Draw, same: Callable[..., Any], seed: int) -> None:
    """Without sigmoids: the runtime's approximation may round to the other side."""
    drawing = draw(1, 4, 7, 6, seed=seed)
    same(network(drawing, smooth=False))


def network(drawing: Any, smooth: bool = True) -> ModelProto:
    """Random residual blocks, gates, shuffles and splits, all of them quantised."""
    rng = drawing.rng
    scale, zero = 0.05, 120
    x = drawing.edge("x", scale, zero)
    for _ in range(rng.integers(2, 6)):
        grid = float(rng.uniform(0.05, 0.2)), int(rng.integers(90, 160))
        groups = int(rng.choice([1, 2, 4]))
        made = drawing.conv(x, 4, 4 // groups, 3, 3, x_scale=scale, pads=[1, 1, 1, 1], group=groups)
        y = drawing.edge(made, *grid)
        match rng.integers(5):
            case 0:
                y = drawing.edge(drawing.one("Add", *((x, y) if rng.integers(2) else (y, x))), *grid)
            case 1:
                y = drawing.edge(drawing.one("Relu", drawing.one("Add", y, x)), grid[0], 0)
                grid = grid[0], 0
            case 2 if smooth:
                y = drawing.edge(drawing.one("Mul", y, drawing.one("Sigmoid", y)), *grid)
            case 3:
                parts = drawing.node("Split", y, outputs=2, axis=1, num_outputs=2)
                edges = [drawing.edge(part, *grid) for part in parts]
                y = drawing.edge(drawing.one("Concat", *edges[::-1], axis=1), *grid)
            case _:
                pooled = drawing.edge(drawing.one("GlobalAveragePool", y), *grid)
                y = drawing.edge(drawing.one("Mul", y, pooled), *grid)
        x, (scale, zero) = y, grid
    model: ModelProto = drawing.model(x)
    return model
