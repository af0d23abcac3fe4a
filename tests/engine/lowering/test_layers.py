"""Lowered layers, executed by the reference, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from shoestring.deploy import matmul_nbits
from shoestring.engine import reference
from shoestring.engine.lower import lower
from shoestring.engine.program import Conv, Linear, Program

Draw = Callable[..., Any]
Same = Callable[..., Program]
RESULT = {"scale": 0.5, "zero": 100}


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((8, 6, 1, 1), {}),
        ((8, 6, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((8, 6, 3, 3), {"pads": [0, 1, 2, 1], "strides": [2, 1]}),
        ((8, 6, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 6, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ((8, 6, 3, 3), {"auto_pad": "VALID"}),
        ((8, 3, 3, 3), {"group": 2, "pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        ((6, 1, 5, 5), {"group": 6, "pads": [2, 2, 2, 2]}),
        ((12, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ],
)
def test_a_convolution(draw: Draw, same: Same, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    drawing = draw(1, 6, 9, 10)
    y = drawing.conv(drawing.edge("x", 0.05, 120), *shape, **attributes)
    program = same(drawing.model(drawing.edge(y, **RESULT)))
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "Conv", "Dequantise"]


def test_a_convolution_in_one_dimension(draw: Draw, same: Same) -> None:
    drawing = draw(1, 6, 20)
    first = drawing.edge(drawing.conv(drawing.edge("x", 0.05, 120), 8, 6, 1), 0.3, 90)
    second = drawing.conv(first, 4, 8, 3, x_scale=0.3, strides=[2], pads=[1, 0])
    program = same(drawing.model(drawing.edge(second, **RESULT)))
    assert [op.kernel for op in program.ops if isinstance(op, Conv)] == [(1, 1), (1, 3)]
    assert sum(type(op).__name__ == "Copy" for op in program.ops) <= 2  # none between the two


def test_relu_and_clip_become_bounds(draw: Draw, same: Same) -> None:
    drawing = draw(1, 4, 6, 6)
    relu = drawing.one("Relu", drawing.conv(drawing.edge("x", 0.05, 120), 4, 4, 1, 1))
    clip = drawing.one("Clip", drawing.conv(drawing.edge(relu, 0.3, 7), 4, 4, 1, 1, x_scale=0.3), *limits(drawing))
    program = same(drawing.model(drawing.edge(clip, 0.1, 50)), off=0.1 + 1e-6)  # a Clip keeps ONNX Runtime in floats
    first, second = (op for op in program.ops if isinstance(op, Conv))
    assert (first.requantise.low, first.requantise.high) == (7, 255)
    assert (second.requantise.low, second.requantise.high) == (40, 70)


def limits(drawing: Any) -> tuple[str, str]:
    return drawing.constant(-1.0), drawing.constant(2.0)


def test_a_clip_of_codes_becomes_bounds(draw: Draw, same: Same) -> None:
    drawing = draw(1, 4, 6, 6)
    y = drawing.conv(drawing.edge("x", 0.5, 8, clip=(1, 14)), 4, 4, 1, 1, x_scale=0.5)
    program = same(drawing.model(drawing.edge(y, 0.7, 4, clip=(0, 15))))
    (conv,) = (op for op in program.ops if isinstance(op, Conv))
    assert (conv.requantise.low, conv.requantise.high) == (0, 15)
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "Table", "Conv", "Dequantise"]


@pytest.mark.parametrize("transposed", [True, False])
def test_a_gemm_with_float_outputs(draw: Draw, same: Same, transposed: bool) -> None:
    drawing = draw(1, 12)
    weight = drawing.weight((5, 12) if transposed else (12, 5), axis=0 if transposed else 1)
    x = drawing.edge("x", 0.05, 120)
    y = drawing.one("Gemm", x, weight, drawing.bias(weight, 0.05), transB=int(transposed))
    program = same(drawing.model(y))
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "Linear"]


def test_a_matmul_of_tokens(draw: Draw, same: Same) -> None:
    drawing = draw(1, 7, 12)
    first = drawing.edge(drawing.one("MatMul", drawing.edge("x", 0.05, 120), drawing.weight((12, 6), axis=1)), 0.2, 99)
    second = drawing.one("MatMul", first, drawing.weight((6, 9), axis=1))
    same(drawing.model(drawing.edge(second, 0.1, 120)))


def test_a_residual_sum_is_fused_in_the_order_of_its_terms(draw: Draw, same: Same) -> None:
    for swapped in (False, True):
        drawing = draw(1, 6, 8, 8)
        x = drawing.edge("x", 0.05, 120)
        y = drawing.edge(drawing.conv(x, 6, 6, 3, 3, pads=[1, 1, 1, 1]), 0.21, 133)
        total = drawing.one("Relu", drawing.one("Add", *((x, y) if swapped else (y, x))))
        program = same(drawing.model(drawing.edge(total, 0.13, 3)))
        (conv,) = (op for op in program.ops if isinstance(op, Conv))
        assert conv.sum.swapped == swapped and conv.sum.low == 3
        assert len(program.ops) == 3


def test_codes_that_are_read_twice_are_not_fused_away(draw: Draw, same: Same) -> None:
    drawing = draw(1, 6, 8, 8)
    x = drawing.edge("x", 0.05, 120)
    y = drawing.edge(drawing.conv(x, 6, 6, 1, 1), 0.21, 133)
    total = drawing.edge(drawing.one("Add", y, x), 0.23, 128)
    program = same(drawing.model(total, y))
    assert "Add" in [type(op).__name__ for op in program.ops]


@pytest.mark.parametrize("bits", [2, 4])
def test_matmul_nbits_is_a_linear_layer(draw: Draw, bits: int) -> None:
    drawing = draw(1, 160)
    weight = drawing.weight((5, 160))
    codes = drawing.made(weight).input[0]
    half = 2 ** (bits - 1)
    drawing.constants[codes] = drawing.rng.integers(-half, half, (5, 160)).astype(np.int8)
    y = drawing.one("Gemm", drawing.edge("x", 0.05, 120), weight, drawing.bias(weight, 0.05), transB=1)
    model = drawing.model(y)
    model.graph.output[0].type.CopyFrom(shaped(1, 5))
    packed = matmul_nbits.lower(model, {drawing.made(y).name: bits}, "onnxruntime")
    assert "MatMulNBits" in [node.op_type for node in packed.graph.node]
    x = np.random.default_rng(0).uniform(-6, 6, (4, 160)).astype(np.float32)
    program = lower(packed)
    (linear,) = (op for op in program.ops if isinstance(op, Linear))
    assert linear.bits == bits
    (got,), (wanted,) = reference.run(program, x), reference.run(lower(model), x)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def shaped(*shape: int) -> Any:
    return helper.make_tensor_type_proto(TensorProto.FLOAT, shape)
