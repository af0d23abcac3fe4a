"""Convolutions and linear layers: the checks of the normal form, and the op once the grid of the output is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shoestring.engine.lowering.builder import Builder, per_image
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.values import Codes, Constant, Encoded, Grid, Pending, Pointwise, Value
from shoestring.engine.lowering.views import transposed, whole, with_one, without
from shoestring.engine.lowering.windows import window_of
from shoestring.engine.program import F32, U8, Const, Conv, Linear, Op, Requantise

BIAS_TOLERANCE = 1e-6  # of a bias's scale to s_x * s_w, each rounded to float32


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose output has no grid yet. `weight` s8 begins with its outputs; `scales` float32 [out] are those of
    the accumulators, s_x * s_w; `bias` int32 [out] or None; `settings`: fields of Conv, None for a Linear."""

    builder: Builder = field(repr=False)
    name: str
    input: int
    x_zero: int
    weight: np.ndarray
    scales: np.ndarray
    bias: np.ndarray | None
    shape: tuple[int, ...]
    bits: int = 8
    settings: Any = None

    def __call__(self, grid: Grid | None, low: int, high: int) -> int:
        pool = self.builder.pool
        output = self.builder.tensor(self.name, self.shape, F32 if grid is None else U8)
        multiplier = self.scales if grid is None else self.scales / grid.scale
        check_multipliers(multiplier)
        bias = Const() if self.bias is None else pool.add(self.bias)
        how = Requantise(bias, pool.add(multiplier), 0 if grid is None else grid.zero, low, high)
        weight = pool.add(self.weight)
        op: Op
        if self.settings is None:
            op = Linear(self.name, self.input, output, weight, self.x_zero, self.bits, how)
        else:
            op = Conv(self.name, self.input, output, weight, self.x_zero, requantise=how, **self.settings)
        self.builder.ops.append(op)
        return output


def conv(node: Node, values: Sequence[Value | None], builder: Builder) -> Pending:
    """Conv in two dimensions, or in one, which is a picture of one row."""
    (x, grid), weight = _activation(values[0]), _weight(values[1], 0)
    dims, kernels = len(x.view.shape) - 2, weight.codes
    if dims not in (1, 2) or kernels.ndim != dims + 2 or x.view.shape[0] != 1:
        raise Unsupported(
            f"a {list(kernels.shape)} convolution of {list(x.view.shape)} is not in one or two dimensions"
        )
    if dims == 1:
        x = replace(x, view=with_one(x.view, 2))
        kernels = kernels[:, :, None, :]
    (outputs, inputs), shape, groups = kernels.shape[:2], x.view.shape[1:], node.attributes.get("group", 1)
    if inputs * groups != shape[0] or outputs % groups:
        raise Unsupported(f"{outputs} outputs of {inputs} inputs in {groups} groups do not fit {shape[0]} channels")
    window = window_of(node, shape[1:], kernels.shape[2:])
    scales = accumulator_scales(grid, weight)
    bias = _bias(values[2] if len(values) > 2 else None, scales)
    rows = transposed(x.view, (0, 2, 3, 1))
    if (
        groups == math.prod(window.kernel) == 1
        and window.size == shape[1:]
        and not x.view.is_whole()
        and rows.is_whole()
    ):
        # Channels lie side by side, as those of points do: row by row, where they lie.
        many = math.prod(shape[1:])
        source = builder.contiguous(replace(x, view=rows), (many, inputs), f"{node.name}/input")
        weights = kernels.reshape(outputs, inputs)
        layer = Layer(builder, node.name, source, grid.zero, weights, scales, bias, (many, outputs))
        made = transposed(whole((1, *shape[1:], outputs)), (0, 3, 1, 2))
    else:
        source = builder.contiguous(x, shape, f"{node.name}/input")
        settings = {"groups": groups, **window.settings, "dilation": window.dilation}
        made = whole((1, outputs, *window.size))
        layer = Layer(
            builder, node.name, source, grid.zero, kernels, scales, bias, (outputs, *window.size), settings=settings
        )
    return Pending(layer, made if dims == 2 else without(made, 2))


def gemm(node: Node, values: Sequence[Value | None], builder: Builder) -> Pending:
    given = node.attributes
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA"):
        raise Unsupported("it has an alpha, beta or transA; fold them into its weight and bias")
    weight = _weight(values[1], 0) if given.get("transB") else _turned(_weight(values[1], 1))
    return _linear(node, values[0], weight, values[2] if len(values) > 2 else None, builder)


def matmul(node: Node, values: Sequence[Value | None], builder: Builder) -> Pending:
    return _linear(node, values[0], _turned(_weight(values[1], 1)), None, builder)


def with_bias(value: Pending, constant: np.ndarray) -> Pending | None:
    """A linear layer plus a constant for each output, folded into its bias in steps of the accumulator; None for
    anything else."""
    layer = value.write
    if not isinstance(layer, Layer) or layer.settings is not None or (value.low, value.high) != (-np.inf, np.inf):
        return None
    if not value.view.is_whole():
        return None
    if constant.shape[-1:] != layer.shape[-1:] or constant.size != layer.shape[-1]:
        return None
    steps = np.rint(constant.ravel().astype(np.float64) / layer.scales)
    total = steps + (0 if layer.bias is None else layer.bias)
    if np.abs(total).max(initial=0) >= 2**31:
        raise Unsupported("its bias does not fit 32 bits in steps of the accumulator")
    return replace(value, write=replace(layer, bias=total.astype(np.int32)))


def matmul_nbits(node: Node, values: Sequence[Value | None], builder: Builder) -> Pending:
    """As `deploy.matmul_nbits` writes it: the zero point in the middle, one scale a row. ONNX Runtime quantises what it
    reads on the fly; here the grid of the graph is used, which is what was trained."""
    given = node.attributes
    outputs, inputs, bits, block = (given.get(key, 0) for key in ("N", "K", "bits", "block_size"))
    packed, scales = values[1], values[2]
    if (
        bits not in (2, 4)
        or len([value for value in values if value is not None]) > 3
        or block not in (16, 32, 64, 128, 256)
    ):
        raise Unsupported("only 2 and 4 bits without zero points, an order or a bias inside are executed")
    blocks = -(-inputs // block)
    if not (isinstance(packed, Constant) and packed.shape == (outputs, blocks, block * bits // 8)):
        raise Unsupported(f"its weight is not {[outputs, blocks, block * bits // 8]} constant bytes")
    if not (isinstance(scales, Constant) and scales.array.size == outputs * blocks):
        raise Unsupported(f"it has not {outputs} x {blocks} constant scales")
    rows = scales.array.astype(np.float32).reshape(outputs, blocks)
    if (rows != rows[:, :1]).any():
        raise Unsupported("its scales differ within a row; give one for each output")
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed.array.reshape(outputs, -1, 1) >> shifts & np.uint8(2**bits - 1)).reshape(outputs, -1)[:, :inputs]
    weight = Encoded((codes - np.uint8(2 ** (bits - 1))).view(np.int8), rows[:, 0], np.zeros(1, np.int8), 0)
    return _linear(node, values[0], weight, None, builder, bits)


def _linear(
    node: Node, value: Value | None, weight: Encoded, bias: Value | None, builder: Builder, bits: int = 8
) -> Pending:
    """`weight` [out, in]."""
    (x, grid), codes = _activation(value), np.ascontiguousarray(weight.codes)
    shape = x.view.shape
    if codes.ndim != 2 or len(shape) < 2 or shape[-1] != codes.shape[1]:
        raise Unsupported(f"{list(shape)} does not fit a weight of {list(codes.shape)}")
    rows = per_image(shape)
    scales = accumulator_scales(grid, weight)
    source = builder.contiguous(x, rows, f"{node.name}/input")
    made = (*rows[:-1], len(codes))
    layer = Layer(builder, node.name, source, grid.zero, codes, scales, _bias(bias, scales), made, bits)
    return Pending(layer, whole((*shape[:-1], len(codes))))


def _turned(weight: Encoded) -> Encoded:
    """[in, out] as [out, in]."""
    return replace(weight, codes=weight.codes.T, axis=0)


def _activation(value: Value | None) -> tuple[Codes, Grid]:
    if not isinstance(value, Pointwise) or value.grid is None:
        raise Unsupported("what it reads is not quantised; quantise that edge, or leave the layer to another runtime")
    return value.codes, value.grid


def _weight(value: Value | None, outputs: int) -> Encoded:
    """An s8 weight whose axis `outputs` runs over the outputs."""
    if not isinstance(value, Encoded):
        raise Unsupported("its weight is not quantised; quantise the layer, or leave the graph to another runtime")
    if value.codes.dtype != np.int8:
        raise Unsupported(f"its weight is stored as {value.codes.dtype}, not int8")
    if value.zeros.any():
        raise Unsupported("its weight has a zero point other than 0")
    if value.scales.size > 1 and (value.axis != outputs or value.scales.size != value.codes.shape[outputs]):
        raise Unsupported(f"its weight has {value.scales.size} scales along axis {value.axis}, not one for each output")
    return value


def accumulator_scales(x: Grid, weight: Encoded) -> np.ndarray:
    """s_x * s_w, float32 [out]."""
    return np.broadcast_to(x.scale * weight.scales.astype(np.float32), (len(weight.codes),))


def _bias(value: Value | None, scales: np.ndarray) -> np.ndarray | None:
    if value is None:
        return None
    if not isinstance(value, Encoded) or value.codes.dtype != np.int32 or value.zeros.any():
        raise Unsupported("its bias is not stored as int32")
    if value.codes.size != scales.size or not _close(value.scales, scales):
        raise Unsupported("its bias has another scale than its input's times its weight's")
    return value.codes.ravel()


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool((np.abs(found - expected) <= BIAS_TOLERANCE * np.abs(expected)).all())


def check_multipliers(multiplier: np.ndarray) -> None:
    if not ((multiplier > 0) & (multiplier < np.inf)).all():
        raise Unsupported("its scales give a multiplier that is not positive and finite")
