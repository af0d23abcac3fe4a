"""Operators of two tensors: sums and products of codes, concatenation, and what a constant makes of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import cast

import numpy as np

from shoestring.engine.lowering.builder import Builder, per_image
from shoestring.engine.lowering.functions import BINARY, mapped
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.layers import check_multipliers, with_bias
from shoestring.engine.lowering.points import arithmetic
from shoestring.engine.lowering.values import (
    Codes,
    Constant,
    Floats,
    Grid,
    Joined,
    Pending,
    Placed,
    Pointwise,
    Value,
    shape_of,
    viewed,
)
from shoestring.engine.lowering.views import broadcast, stored_order, transposed, whole
from shoestring.engine.program import Add, Const, Mul, Requantise, Sum
from shoestring.engine.reference import fma


@dataclass(frozen=True, eq=False)
class Pair:
    """The sum, difference or product of two dequantised tensors, whose output has no grid yet."""

    builder: Builder = field(repr=False)
    op: str
    name: str
    a: Pointwise
    b: Pointwise
    shape: tuple[int, ...]

    def __call__(self, grid: Grid | None, low: int, high: int) -> int:
        if grid is None:
            raise Unsupported("its result is needed in floats; quantise it, or leave it to another runtime")
        return (self._product if self.op == "Mul" else self._sum)(grid, low, high)

    def _sum(self, grid: Grid, low: int, high: int) -> int:
        (first, a), (second, b), builder = self._input(self.a), self._input(self.b), self.builder
        output = builder.tensor(self.name, builder.tensors[first].shape)
        if self.op == "Sub":
            b = replace(b, scale=-b.scale)
        scales = sum_scales(a, b, grid)
        check_multipliers(np.abs(scales[:2]))
        how = Sum(second, 0, builder.pool.add(scales), low, high)
        builder.ops.append(Add(self.name, first, output, how))
        return output

    def _product(self, grid: Grid, low: int, high: int) -> int:
        (first, a), (second, b), builder = self._input(self.a), self._input(self.b), self.builder
        output = builder.tensor(self.name, builder.tensors[first].shape)
        multiplier = np.array([a.scale * b.scale / grid.scale], np.float32)
        check_multipliers(multiplier)
        how = Requantise(Const(), builder.pool.add(multiplier), grid.zero, low, high)
        builder.ops.append(Mul(self.name, first, output, second, a.zero, b.zero, how))
        return output

    def _input(self, value: Pointwise) -> tuple[int, Grid]:
        assert value.grid is not None
        shape = self.shape if math.prod(value.view.shape) == math.prod(self.shape) else per_image(value.view.shape)
        return self.builder.contiguous(value.codes, shape, f"{self.name}/input"), value.grid


def sum_scales(a: Grid, b: Grid, out: Grid) -> np.ndarray:
    """float32 [3]. Rounded where ONNX Runtime's QLinearAdd for AVX2 rounds (its compiler fuses the first product)."""
    ratio_a, ratio_b = a.scale / out.scale, b.scale / out.scale
    (shift,) = fma(np.array([a.zero], np.float32), ratio_a, ratio_b * np.float32(b.zero))
    return np.array([ratio_a, ratio_b, np.float32(out.zero) - shift], np.float32)


def binary(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """Add, Mul and their like, of two values (Max and Min: of any number)."""
    if len(values) < 2 or (len(values) > 2 and node.op not in ("Max", "Min")):
        raise Unsupported(f"it has {len(values)} inputs")
    given = [_present(value) for value in values]
    return reduce(lambda a, b: _binary(node, a, b, builder), given)


def _binary(node: Node, a: Value, b: Value, builder: Builder) -> Value:
    function = BINARY[node.op]
    if isinstance(a, Constant) and isinstance(b, Constant):
        return Constant(np.asarray(function(a.array, b.array)))
    if found := arithmetic(node, a, b, builder):
        return found
    if isinstance(b, Constant):
        return _with_constant(node, a, b.array, function)
    if isinstance(a, Constant):
        return _with_constant(node, b, a.array, lambda x, constant: function(constant, x))
    if not (isinstance(a, Pointwise) and isinstance(b, Pointwise)):
        raise Unsupported("what it reads is not quantised; quantise both its inputs")
    if (a.codes.tensor, a.view) == (b.codes.tensor, b.view) and (node.op != "Add" or None in (a.grid, b.grid)):
        both = np.asarray(function(a.stored(), b.stored()), np.float32)
        return Pointwise(replace(a.codes, table=None), both)
    if node.op not in ("Add", "Sub", "Mul"):
        raise Unsupported("of two tensors only sums, differences and products are executed")
    if a.grid is None or b.grid is None:
        raise Unsupported("a float function stands between it and the quantiser it reads; quantise both its inputs")
    return _pair(node, a, b, builder)


def _with_constant(node: Node, value: Value, constant: np.ndarray, function: Callable[..., np.ndarray]) -> Value:
    if constant.size == 1 and constant.ndim <= len(shape_of(value)) and not isinstance(value, Pending):
        number = constant.astype(np.float32).ravel()[0]
        return mapped(value, lambda x: function(x, number))
    if node.op == "Add" and isinstance(value, Pending) and (layer := with_bias(value, constant)):
        return layer
    raise Unsupported(f"its constant of shape {list(constant.shape)} is not one number for a quantised tensor")


def _pair(node: Node, a: Pointwise, b: Pointwise, builder: Builder) -> Pending:
    if node.op == "Mul" and math.prod(a.view.shape) < math.prod(b.view.shape):
        a, b = b, a
    shape = np.broadcast_shapes(a.view.shape, b.view.shape)
    a = cast(Pointwise, viewed(a, broadcast(a.view, shape)))
    order = _order(a, b, shape)
    if order is None and node.op == "Mul" and _is_gate(b.view.shape, shape):
        return Pending(Pair(builder, node.op, node.name, a, b, per_image(shape)), whole(shape))
    b = cast(Pointwise, viewed(b, broadcast(b.view, shape)))
    if order is None:
        return Pending(Pair(builder, node.op, node.name, a, b, per_image(shape)), whole(shape))
    a, b = (cast(Pointwise, viewed(value, transposed(value.view, order))) for value in (a, b))
    stored = next(builder.tensors[value.codes.tensor].shape for value in (a, b) if value.view.is_whole())
    back = [int(place) for place in np.argsort(order)]
    return Pending(Pair(builder, node.op, node.name, a, b, stored), transposed(whole(a.view.shape), back))


def _order(a: Pointwise, b: Pointwise, shape: tuple[int, ...]) -> list[int] | None:
    """The axes as they lie in memory, where one of the two is stored in another order than that of its axes."""
    if shape[:1] != (1,) or (a.view.shape == shape and a.view.is_whole()):
        return None
    for view in (a.view, b.view):
        if view.shape == shape and view.is_permuted():
            order = stored_order(view)
            return order if transposed(view, order).is_whole() else None
    return None


def _present(value: Value | None) -> Value:
    if value is None:
        raise Unsupported("an input of it is left out")
    return value


def _is_gate(shape: Sequence[int], onto: Sequence[int]) -> bool:
    """One element a channel."""
    return len(shape) == len(onto) >= 2 and tuple(shape) == (1, onto[1], *[1] * (len(onto) - 2)) and onto[0] == 1


def concat(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    if all(isinstance(value, Constant) for value in values):
        arrays = [value.array for value in values if isinstance(value, Constant)]
        return Constant(np.concatenate(arrays, node.attributes["axis"]))
    parts: list[Placed] = []
    for value in values:
        if not isinstance(value, Codes | Floats | Pointwise | Pending):
            raise Unsupported("it joins a constant, or what was joined already; quantise between")
        parts.append(value)
    axis = node.attributes["axis"] % len(parts[0].view.shape)
    if axis == 0:
        raise Unsupported("it joins images of the batch")
    if all(isinstance(part, Codes) for part in parts):
        raise Unsupported("it joins codes; dequantise before it and quantise after it")
    return parts[0] if len(parts) == 1 else Joined(tuple(parts), axis)
