"""Pooling, and reductions that are pools: means and maxima."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shoestring.engine.lowering.builder import Builder, per_image
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.layers import check_multipliers
from shoestring.engine.lowering.values import Codes, Constant, Grid, Pending, Pointwise, Value
from shoestring.engine.lowering.views import View, reshaped, stored_order, transposed, whole, without
from shoestring.engine.lowering.windows import Window, window_of
from shoestring.engine.program import AveragePool, Const, Highest, MaxPool, Requantise

Settings = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Average:
    """A mean over windows, whose output has no grid yet."""

    builder: Builder = field(repr=False)
    name: str
    x: Pointwise
    shape: tuple[int, ...]
    window: Settings
    count_padding: int = 0

    def __call__(self, grid: Grid | None, low: int, high: int) -> int:
        if grid is None or self.x.grid is None:
            raise Unsupported("its result is needed in floats; quantise it, or leave it to another runtime")
        builder, x = self.builder, self.x.grid
        source = builder.contiguous(self.x.codes, self.x.view.shape[1:], f"{self.name}/input")
        output = builder.tensor(self.name, self.shape)
        counts = np.arange(1, math.prod(self.window["kernel"]) + 1, dtype=np.float32)
        multiplier = x.scale / (grid.scale * counts)
        check_multipliers(multiplier)
        how = Requantise(Const(), builder.pool.add(multiplier), grid.zero, low, high)
        op = AveragePool(self.name, source, output, x.zero, self.count_padding, requantise=how, **self.window)
        builder.ops.append(op)
        return output


def average_pool(node: Node, values: Sequence[Value | None], builder: Builder) -> Pending:
    x = _quantised(values[0])
    window, counted = _window(node, x), bool(node.attributes.get("count_include_pad"))
    if window.dilation != (1, 1) or (window.ceiled and counted):
        raise Unsupported("a mean with dilation, or with ceil_mode and count_include_pad, is not executed")
    shape = (x.view.shape[1], *window.size)
    return Pending(Average(builder, node.name, x, shape, window.settings, int(counted)), whole((1, *shape)))


def max_pool(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unsupported("the indices of a maximum are not executed")
    x = _quantised(values[0], monotone=True)
    window = _window(node, x)
    reach = [(window.kernel[axis] - 1) * window.dilation[axis] + 1 for axis in (0, 1)]
    if any(window.pads[axis + side] >= reach[axis] for axis in (0, 1) for side in (0, 2)):
        raise Unsupported("a window of it lies in the padding altogether")
    settings = window.settings | {"dilation": window.dilation}
    return _maximum(node, x, settings, (x.view.shape[1], *window.size), builder)


def global_pool(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """GlobalAveragePool, GlobalMaxPool, ReduceMean and ReduceMax."""
    highest = node.op in ("GlobalMaxPool", "ReduceMax")
    x = _quantised(values[0], monotone=highest)
    rank = len(x.view.shape)
    axes, keep = _reduced(node, values, rank)
    shape = x.view.shape
    if highest and (result := _highest(node, x, axes, keep, builder)):
        return result
    if axes == [rank - 2, rank - 1] and rank == 4:
        view: View | None = x.view
    else:  # what is reduced goes to the end, as the rows of a picture
        kept = [axis for axis in range(rank) if axis not in axes]
        rest, count = math.prod(shape[axis] for axis in kept), math.prod(shape[axis] for axis in axes)
        view = reshaped(transposed(x.view, [*kept, *axes]), (1, rest, 1, count))
    if view is None or shape[0] != 1 or 0 in axes:
        raise Unsupported(f"a reduction of {list(shape)} along {axes} is not executed")
    x = replace(x, codes=replace(x.codes, view=view))
    channels, height, width = view.shape[1:]
    window: Settings = {"kernel": (height, width), "stride": (1, 1), "pads": (0, 0, 0, 0)}
    made = (channels, 1, 1)
    after = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes)
    if highest:
        result = _maximum(node, x, window | {"dilation": (1, 1)}, made, builder)
        seen = reshaped(result.view, after)
        assert seen is not None
        return replace(result, codes=replace(result.codes, view=seen))
    seen = reshaped(whole((1, *made)), after)
    assert seen is not None
    return Pending(Average(builder, node.name, x, made, window), seen)


def _maximum(node: Node, x: Pointwise, window: Settings, shape: tuple[int, ...], builder: Builder) -> Pointwise:
    source = builder.contiguous(x.codes, x.view.shape[1:], f"{node.name}/input")
    output = builder.tensor(node.name, shape)
    builder.ops.append(MaxPool(node.name, source, output, **window))
    return replace(x, codes=Codes(output, whole((1, *shape))))


def _highest(node: Node, x: Pointwise, axes: list[int], keep: bool, builder: Builder) -> Pointwise | None:
    """The maximum along axes that lie side by side in memory with others behind them, where they lie; None for
    others."""
    order = stored_order(x.view)
    stored, shape = transposed(x.view, order), x.view.shape
    places = [place for place, axis in enumerate(order) if axis in axes and shape[axis] > 1]
    if not places or shape[0] != 1 or 0 in axes or not stored.is_whole():
        return None
    begin, end = places[0], places[-1] + 1
    length, inner = math.prod(stored.shape[begin:end]), math.prod(stored.shape[end:])
    if inner == 1 or length != math.prod(shape[axis] for axis in axes):
        return None
    outer = math.prod(stored.shape[:begin])
    source = builder.contiguous(
        replace(x.codes, view=stored), builder.tensors[x.codes.tensor].shape, f"{node.name}/input"
    )
    output = builder.tensor(node.name, per_image((outer, inner)))
    builder.ops.append(Highest(node.name, source, output, outer, length, inner))
    left = [1 if order[place] in axes else size for place, size in enumerate(stored.shape)]
    view = transposed(whole(left), [int(place) for place in np.argsort(order)])
    for axis in reversed(axes) if not keep else ():
        view = without(view, axis)
    return replace(x, codes=Codes(output, view))


def _quantised(value: Value | None, monotone: bool = False) -> Pointwise:
    if not isinstance(value, Pointwise) or (value.grid is None and not monotone):
        raise Unsupported("what it reads is not quantised; quantise that edge")
    if monotone and value.grid is None and (np.diff(value.values) < 0).any():
        raise Unsupported("the function before it is not monotone; quantise between")
    return value


def _reduced(node: Node, values: Sequence[Value | None], rank: int) -> tuple[list[int], bool]:
    """The axes, and whether they stay as ones."""
    if node.op.startswith("Global"):
        return list(range(2, rank)), True
    given = node.attributes.get("axes")
    if len(values) > 1 and isinstance(values[1], Constant):
        given = values[1].array.tolist()
    if given is None:
        given = range(rank)
    return sorted(int(axis) % rank for axis in given), bool(node.attributes.get("keepdims", 1))


def _window(node: Node, x: Pointwise) -> Window:
    shape, kernel = x.view.shape, node.attributes["kernel_shape"]
    if len(shape) != 4 or shape[0] != 1 or len(kernel) != 2:
        raise Unsupported(f"a pool of {list(shape)} is not in two dimensions")
    return window_of(node, shape[2:], kernel)
