"""Executes a program in NumPy, as `program.py` says and nothing cleverer: what the native code is compared with.

Accumulators are sums of at most 2^24 products of 8-bit numbers, which float64 holds exactly, so convolutions are
products of float64 matrices; what follows is float32, one rounding an operation.
"""

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from shoestring.engine.program import (
    DTYPES,
    NONE,
    U8,
    Add,
    AveragePool,
    Const,
    Conv,
    Copy,
    Dequantise,
    Farthest,
    Highest,
    Linear,
    MaxPool,
    Mul,
    Nearest,
    Op,
    Program,
    Quantise,
    Relative,
    Requantise,
    Softmax,
    Sum,
    Table,
    Take,
)

Values = dict[int, np.ndarray]


def run(program: Program, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs [N, ...] of `program` for inputs [N, ...]."""
    values = run_all(program, *inputs)
    return [values[index] for index in program.outputs]


def run_all(program: Program, *inputs: np.ndarray) -> Values:
    """Every tensor [N, ...] by its index."""
    images = len(inputs[0])
    values: Values = {}
    for index, given in zip(program.inputs, inputs, strict=True):
        tensor = program.tensors[index]
        values[index] = np.asarray(given, DTYPES[tensor.dtype]).reshape(images, *tensor.shape)
    for op in program.ops:
        tensor = program.tensors[op.output]
        if isinstance(op, Copy):  # several fill one output
            whole = values.setdefault(op.output, np.zeros((images, *tensor.shape), DTYPES[tensor.dtype]))
            _copy(program, op, values[op.input], whole)
        else:
            result = _RULES[type(op)](program, op, values)
            assert result.dtype == DTYPES[tensor.dtype], op
            values[op.output] = result.reshape(images, *tensor.shape)
    return values


def requantised(program: Program, acc: np.ndarray, how: Requantise, axis: int = 1) -> np.ndarray:
    """Codes of the accumulators `acc` (any exact type), whose multipliers and biases run along `axis`."""
    scaled = np.rint(_scaled(program, acc, how, axis))
    # Bounds first: beyond them float32 need not hold the sum with the zero point.
    codes = (np.clip(scaled, how.low - how.zero, how.high - how.zero) + how.zero).astype(np.uint8)
    return _looked_up(program, how.table, codes)


def summed(program: Program, codes: np.ndarray, other: np.ndarray, how: Sum) -> np.ndarray:
    """The codes of two tensors' sum."""
    a, b = (other, codes) if how.swapped else (codes, other)
    scale_a, scale_b, fixed = program.const(how.scales, np.float32)
    total = np.rint(fma(a.astype(np.float32), scale_a, fma(b.astype(np.float32), scale_b, fixed)))
    return _looked_up(program, how.table, np.clip(total, how.low, how.high).astype(np.uint8))


def fma(a: np.ndarray, b: np.float32, c: np.ndarray | np.float32) -> np.ndarray:
    """float32 a * b + c, rounded once. The product is exact in float64; the sum is rounded there to odd, which keeps
    what the rounding to float32 needs (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008)."""
    product, addend = a.astype(np.float64) * np.float64(b), np.asarray(c, np.float64)
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)  # exact: Knuth's TwoSum
    even = total.view(np.int64) & 1 == 0
    beyond = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(even & (error != 0), beyond, total).astype(np.float32)


def _scaled(program: Program, acc: np.ndarray, how: Requantise, axis: int) -> np.ndarray:
    along = [1] * acc.ndim
    along[axis] = -1
    if how.bias.count:
        acc = acc + program.const(how.bias, np.int32).reshape(along)
    acc = acc.astype(np.int64).astype(np.int32)  # which wraps
    return acc.astype(np.float32) * program.const(how.multiplier, np.float32).reshape(along)


def _looked_up(program: Program, table: Const, codes: np.ndarray) -> np.ndarray:
    return program.const(table, np.uint8)[codes] if table.count else codes


def _layer(program: Program, op: Conv | Linear, acc: np.ndarray, axis: int, values: Values) -> np.ndarray:
    """What a layer makes of its accumulators."""
    if program.tensors[op.output].dtype != U8:
        return _scaled(program, acc, op.requantise, axis)
    codes = requantised(program, acc, op.requantise, axis)
    return codes if op.sum.tensor == NONE else summed(program, codes, values[op.sum.tensor], op.sum)


def _conv(program: Program, op: Conv, values: Values) -> np.ndarray:
    x = values[op.input].astype(np.float64) - op.x_zero
    images, channels = x.shape[:2]
    outputs, height, width = program.tensors[op.output].shape
    taps = _taps(x, op, (height, width), 0)
    weight = program.const(op.weight, np.int8).astype(np.float64).reshape(op.groups, outputs // op.groups, -1)
    if op.groups == channels == outputs:
        acc = sum(tap * each.reshape(-1, 1, 1) for tap, each in zip(taps, weight.T, strict=True))
    else:
        columns = np.stack(taps, axis=2).reshape(images, op.groups, -1, height * width)  # [N, C, taps, H, W]
        acc = (weight @ columns).reshape(images, outputs, height, width)
    return _layer(program, op, cast(np.ndarray, acc), 1, values)


def _linear(program: Program, op: Linear, values: Values) -> np.ndarray:
    x = values[op.input].astype(np.float64) - op.x_zero
    weight = program.const(op.weight, np.int8).astype(np.float64).reshape(-1, x.shape[-1])
    return _layer(program, op, x @ weight.T, x.ndim - 1, values)


def _taps(x: np.ndarray, op: Conv | MaxPool | AveragePool, out: tuple[int, int], padding: int) -> list[np.ndarray]:
    """For each element of the kernel, what it meets: [N, C, Ho, Wo]."""
    top, left, bottom, right = op.pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    (step_y, step_x), (wide_y, wide_x) = op.stride, getattr(op, "dilation", (1, 1))
    found = []
    for y in range(0, op.kernel[0] * wide_y, wide_y):
        for x_at in range(0, op.kernel[1] * wide_x, wide_x):
            rows = slice(y, y + (out[0] - 1) * step_y + 1, step_y)
            found.append(padded[:, :, rows, x_at : x_at + (out[1] - 1) * step_x + 1 : step_x])
    return found


def _max_pool(program: Program, op: MaxPool, values: Values) -> np.ndarray:
    height, width = program.tensors[op.output].shape[1:]
    return cast(np.ndarray, np.maximum.reduce(_taps(values[op.input], op, (height, width), 0)))


def _average_pool(program: Program, op: AveragePool, values: Values) -> np.ndarray:
    x = values[op.input].astype(np.int64) - op.x_zero
    height, width = program.tensors[op.output].shape[1:]
    acc, ones = (np.sum(_taps(each, op, (height, width), 0), axis=0) for each in (x, np.ones_like(x[:1, :1])))
    counts = np.full_like(ones, op.kernel[0] * op.kernel[1]) if op.count_padding else ones
    multiplier = program.const(op.requantise.multiplier, np.float32)[counts - 1]
    scaled = np.rint(acc.astype(np.float32) * multiplier)
    how = op.requantise
    codes = (np.clip(scaled, how.low - how.zero, how.high - how.zero) + how.zero).astype(np.uint8)
    return _looked_up(program, how.table, codes)


def _mul(program: Program, op: Mul, values: Values) -> np.ndarray:
    a, b = values[op.input].astype(np.int32) - op.zero_a, values[op.other].astype(np.int32) - op.zero_b
    if a.shape != b.shape:
        b = b.reshape(*a.shape[:2], *[1] * (a.ndim - 2))
    return requantised(program, a * b, op.requantise)


def _quantise(program: Program, op: Quantise, values: Values) -> np.ndarray:
    return _quantised(program, op, values[op.input])


def _quantised(program: Program, op: Quantise | Relative, x: np.ndarray) -> np.ndarray:
    scaled = np.rint(x / program.const(op.scale, np.float32))
    return (np.clip(scaled, -op.zero, 255 - op.zero) + op.zero).astype(np.uint8)


def _softmax(program: Program, op: Softmax, values: Values) -> np.ndarray:
    x = values[op.input].reshape(-1, op.outer, op.length, op.inner).astype(np.float64)
    powers = np.exp(x - x.max(axis=2, keepdims=True))
    return (powers / powers.sum(axis=2, keepdims=True)).astype(np.float32)


def _copy(program: Program, op: Copy, source: np.ndarray, into: np.ndarray) -> None:
    images = len(source)
    steps = np.indices(op.extents).reshape(len(op.extents), -1)  # [axes, elements]
    read, write = op.start + np.array(op.strides) @ steps, op.to + np.array(op.to_strides) @ steps
    moved = source.reshape(images, -1)[:, read]
    into.reshape(images, -1)[:, write] = _looked_up(program, op.table, moved)


def _farthest(program: Program, op: Farthest, values: Values) -> np.ndarray:
    x, (count,) = values[op.input], program.tensors[op.output].shape
    near, picked = np.full(x.shape[:2], np.inf, np.float32), np.zeros((len(x), count), np.int32)
    for at in range(1, count):
        near = np.minimum(near, _squared(x - x[np.arange(len(x)), picked[:, at - 1]][:, None]))
        picked[:, at] = near.argmax(1)  # the first of equal ones
    return picked


def _nearest(program: Program, op: Nearest, values: Values) -> np.ndarray:
    count = program.tensors[op.output].shape[1]
    squared = _squared(values[op.input][:, :, None] - values[op.other][:, None])  # [images, M, N]
    index = squared.argsort(axis=2, kind="stable")[:, :, :count].astype(np.int32)
    if not op.radius.count:
        return index
    (radius,) = program.const(op.radius, np.float32)
    far = np.take_along_axis(squared, index.astype(np.int64), 2) > radius * radius
    return np.where(far, index[:, :, :1], index)


def _squared(difference: np.ndarray) -> np.ndarray:
    dx, dy, dz = np.moveaxis(difference, -1, 0)
    return np.asarray((dx * dx + dy * dy) + dz * dz)


def _taken(op: Take | Relative, values: Values) -> np.ndarray:
    index = values[op.index]
    return values[op.input][np.arange(len(index)).reshape(-1, *[1] * (index.ndim - 1)), index]


def _relative(program: Program, op: Relative, values: Values) -> np.ndarray:
    x = _taken(op, values)
    if op.other != NONE:
        x = x - values[op.other][:, :, None]
    for factor in program.const(op.factors, np.float32):
        x = x * factor
    return _quantised(program, op, x) if op.scale.count else x


_RULES: Mapping[type[Op], Callable[..., np.ndarray]] = {
    Quantise: _quantise,
    Dequantise: lambda program, op, values: program.const(op.table, np.float32)[values[op.input]],
    Conv: _conv,
    Linear: _linear,
    Add: lambda program, op, values: summed(program, values[op.input], values[op.sum.tensor], op.sum),
    Mul: _mul,
    MaxPool: _max_pool,
    AveragePool: _average_pool,
    Table: lambda program, op, values: program.const(op.table, np.uint8)[values[op.input]],
    Softmax: _softmax,
    Farthest: _farthest,
    Nearest: _nearest,
    Take: lambda program, op, values: _taken(op, values),
    Relative: _relative,
    Highest: lambda program, op, values: values[op.input].reshape(-1, op.outer, op.length, op.inner).max(axis=2),
}
