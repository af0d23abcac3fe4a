"""Operators that move elements and compute nothing: views, of anything that has one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from shoestring.engine.lowering.builder import Builder, per_image
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.values import (
    Codes,
    Constant,
    Encoded,
    Indices,
    Joined,
    Pending,
    Placed,
    Pointwise,
    Value,
    shape_of,
    viewed,
)
from shoestring.engine.lowering.views import (
    View,
    broadcast,
    repeated,
    reshaped,
    sliced,
    transposed,
    whole,
    without,
)


def identity(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    if values[0] is None or (len(node.outputs) > 1 and node.outputs[1]):
        raise Unsupported("the mask of a Dropout is not computed")
    return values[0]


def shape(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """Of one image."""
    found = shape_of(_given(values))
    start, end = node.attributes.get("start", 0), node.attributes.get("end", len(found))
    return Constant(np.array(found[start:end], np.int64))


def reshape(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x = _given(values)
    if node.op == "Flatten":
        axis, old = node.attributes.get("axis", 1), shape_of(x)
        axis += len(old) if axis < 0 else 0
        wanted = [math.prod(old[:axis]), math.prod(old[axis:])]
    elif node.op == "Unsqueeze":
        wanted = list(shape_of(x))
        axes = _axes(node, values)
        rank = len(wanted) + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            wanted.insert(axis, 1)
    elif node.op == "Squeeze":
        old = shape_of(x)
        dropped = {axis % len(old) for axis in _axes(node, values)} or {i for i, size in enumerate(old) if size == 1}
        if any(old[axis] != 1 for axis in dropped):
            raise Unsupported(f"{list(old)} cannot be squeezed along {sorted(dropped)}")
        wanted = [size for axis, size in enumerate(old) if axis not in dropped]
    else:
        wanted = _asked(node, x, values)
    return _reshape(x, wanted, builder, node.name)


def transpose(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x = _given(values)
    order = node.attributes.get("perm", list(range(len(shape_of(x))))[::-1])
    if isinstance(x, Constant):
        return Constant(x.array.transpose(order))
    if isinstance(x, Encoded):
        return replace(x, codes=x.codes.transpose(order), axis=order.index(x.axis))
    return _viewed(x, lambda view: transposed(view, order), builder, node.name)


def slices(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x = _given(values)
    starts, ends, axes, steps = _slice_arguments(node, values, len(shape_of(x)))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape_of(x))
        taken = range(shape_of(x)[axis])[slice(start, end, step)]
        if step < 1 or not taken:
            raise Unsupported("a slice backwards, or of nothing, is not executed")
        x = _slice(x, axis, taken, builder, node.name)
    return x


def split(node: Node, values: Sequence[Value | None], builder: Builder) -> list[Value]:
    x = _given(values)
    axis = node.attributes.get("axis", 0) % len(shape_of(x))
    total, count = shape_of(x)[axis], len(node.outputs)
    sizes = node.attributes.get("split")
    if len(values) > 1 and values[1] is not None:
        sizes = _whole_numbers(values[1])
    if sizes is None:
        each = -(-total // count)
        sizes = [min(each, total - each * index) for index in range(count)]
    if sum(sizes) != total or min(sizes) < 1 or len(sizes) != count:
        raise Unsupported(f"{sizes} do not split {total}")
    starts = np.cumsum([0, *sizes]).tolist()
    return [
        _slice(x, axis, range(start, start + size), builder, node.name)
        for start, size in zip(starts[:-1], sizes, strict=True)
    ]


def gather(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x, axis = _given(values), node.attributes.get("axis", 0)
    if not isinstance(values[1], Constant):
        raise Unsupported("its indices are computed; only constant ones are executed")
    indices = values[1].array
    if isinstance(x, Constant):
        return Constant(np.asarray(np.take(x.array, indices, axis)))
    axis %= len(shape_of(x))
    size = shape_of(x)[axis]
    at = [int(index) + (size if index < 0 else 0) for index in indices.ravel()]
    step = at[1] - at[0] if len(at) > 1 else 1
    if indices.ndim > 1 or step < 1 or not at or any(b - a != step for a, b in pairwise(at)):
        raise Unsupported("its indices are not one, nor evenly spaced upwards")
    if not 0 <= at[0] <= at[-1] < size:
        raise Unsupported(f"its indices go beyond {size} elements")
    x = _slice(x, axis, range(at[0], at[-1] + 1, step), builder, node.name)
    return x if indices.ndim else _viewed(x, lambda view: without(view, axis), builder, node.name)


def expand(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x, wanted = _given(values), _whole_numbers(values[1])
    full = np.broadcast_shapes(shape_of(x), tuple(wanted))
    if isinstance(x, Constant):
        return Constant(np.broadcast_to(x.array, full))
    return _viewed(x, lambda view: broadcast(view, full), builder, node.name)


def resize(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """Nearest neighbours by whole factors: every element so many times."""
    x, given = _given(values), node.attributes
    old = shape_of(x)
    sizes = values[3] if len(values) > 3 else None
    scales = values[2] if len(values) > 2 else values[1] if node.op == "Upsample" else None
    if isinstance(sizes, Constant):
        factors = [new / size for new, size in zip(sizes.array.tolist(), old, strict=True)]
    elif isinstance(scales, Constant):
        factors = scales.array.tolist()
    else:
        raise Unsupported("its factors are no constants")
    mode = given.get("coordinate_transformation_mode", b"asymmetric" if node.op == "Upsample" else b"half_pixel")
    nearest = given.get("nearest_mode", b"floor" if node.op == "Upsample" else b"round_prefer_floor")
    # By a whole factor f, output i reads floor(i / f): asymmetric with floor, and half pixels in any rounding but up
    # and down, where (i + 1/2) / f - 1/2 lies within half an element of it.
    exact = (mode == b"asymmetric" and nearest == b"floor") or (
        mode in (b"half_pixel", b"pytorch_half_pixel") and nearest in (b"round_prefer_floor", b"round_prefer_ceil")
    )
    if given.get("mode", b"nearest") != b"nearest" or not exact or "axes" in given or len(factors) != len(old):
        raise Unsupported("only nearest neighbours are executed; leave others to another runtime")
    if any(factor != int(factor) or factor < 1 for factor in factors):
        raise Unsupported(f"its factors {factors} are not whole")
    for axis, factor in enumerate(factors):
        if factor > 1:
            x = _viewed(x, lambda view, a=axis, f=int(factor): repeated(view, a, f), builder, node.name)  # type: ignore[misc]
    return x


def pad(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """With a constant: copies of one element, whose table says what it is, around a copy of the inside."""
    x = _given(values)
    if node.attributes.get("mode", b"constant") != b"constant":
        raise Unsupported("only padding with a constant is executed")
    pads = _whole_numbers(values[1])
    rank = len(shape_of(x))
    if len(values) > 3 and values[3] is not None:
        axes = [axis % rank for axis in _whole_numbers(values[3])]
        spread = [0] * (2 * rank)
        for index, axis in enumerate(axes):
            spread[axis], spread[axis + rank] = pads[index], pads[index + len(axes)]
        pads = spread
    if not any(pads):
        return x
    filler = values[2] if len(values) > 2 else None
    number = 0.0 if filler is None else float(filler.array.ravel()[0]) if isinstance(filler, Constant) else math.nan
    if min(pads) < 0 or math.isnan(number):
        raise Unsupported("negative padding, or with what is computed, is not executed")
    if not isinstance(x, Pointwise) or x.grid is None or pads[0] or pads[rank]:
        raise Unsupported("what it pads is not quantised")
    code = x.grid.codes(np.array([number], np.float32))
    if x.grid.values()[code[0]] != np.float32(number):
        raise Unsupported(f"its constant {number:g} is not on the grid of what it pads")
    return _padded(x, pads[:rank], pads[rank:], int(code[0]), builder, node.name)


def _padded(
    x: Pointwise, before: Sequence[int], after: Sequence[int], code: int, builder: Builder, name: str
) -> Pointwise:
    inside = x.view.shape
    full = tuple(a + size + b for a, size, b in zip(before, inside, after, strict=True))
    output = builder.tensor(name, full[1:])
    filler = np.full(256, code, np.uint8)
    one = View(tuple(((1, 0),) for _ in inside), x.view.start)

    def part(starts: Sequence[int], counts: Sequence[int]) -> View:
        view: View | None = whole(full)
        for axis, (start, count) in enumerate(zip(starts, counts, strict=True)):
            assert view is not None
            view = sliced(view, axis, start, count)
        assert view is not None
        return view

    builder.copy(name, x.codes, output, part(before, inside))
    starts, counts = [0] * len(full), list(full)
    for axis, size in enumerate(inside):  # slabs at both ends of each axis, within what is left
        for start, count in ((0, before[axis]), (before[axis] + size, after[axis])):
            if count:
                slab = part([*starts[:axis], start, *starts[axis + 1 :]], [*counts[:axis], count, *counts[axis + 1 :]])
                builder.copy(name, replace(x.codes, view=broadcast(one, slab.shape)), output, slab, filler)
        starts[axis], counts[axis] = before[axis], size
    return replace(x, codes=Codes(output, whole(full)))


def _viewed(x: Value, change: Callable[[View], View | None], builder: Builder, name: str) -> Value:
    """`x` seen through a changed view; what cannot be seen so is put in order first."""
    if isinstance(x, Joined):
        raise Unsupported("it moves what was joined; quantise between")
    if not isinstance(x, Placed):
        raise Unsupported("it moves a weight")
    found = change(x.view)
    if found is None:
        x = _in_order(x, builder, name)
        found = change(x.view)
        assert found is not None
    return viewed(x, found)


def _in_order(x: Placed, builder: Builder, name: str) -> Placed:
    if isinstance(x, Pending | Indices):
        raise Unsupported("its result is moved in a way that needs it in order; quantise before")
    shape = x.view.shape
    tensor = builder.contiguous(x.codes if isinstance(x, Pointwise) else x, per_image(shape), name)
    if isinstance(x, Pointwise):
        return replace(x, codes=Codes(tensor, whole(shape)))
    return type(x)(tensor, whole(shape))


def _reshape(x: Value, wanted: Sequence[int], builder: Builder, name: str) -> Value:
    if isinstance(x, Constant):
        return Constant(x.array.reshape(wanted))
    if isinstance(x, Encoded):
        if x.scales.size > 1:
            raise Unsupported("it reshapes a weight with several scales")
        return replace(x, codes=x.codes.reshape(wanted), axis=0)
    if math.prod(wanted) != math.prod(shape_of(x)):
        raise Unsupported(f"{list(shape_of(x))} cannot become {list(wanted)}; is the batch baked in?")
    return _viewed(x, lambda view: reshaped(view, wanted), builder, name)


def _asked(node: Node, x: Value, values: Sequence[Value | None]) -> list[int]:
    """The shape that a Reshape asks for."""
    wanted, old = _whole_numbers(values[1]), shape_of(x)
    if not node.attributes.get("allowzero"):
        wanted = [old[axis] if size == 0 and axis < len(old) else size for axis, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(old) // known if known else 0
    if any(size < 1 for size in wanted):
        raise Unsupported(f"{list(old)} cannot become {wanted}")
    return wanted


def _slice(x: Value, axis: int, taken: range, builder: Builder, name: str) -> Value:
    if isinstance(x, Constant):
        return Constant(np.take(x.array, taken, axis))
    return _viewed(x, lambda view: sliced(view, axis, taken.start, len(taken), taken.step), builder, name)


def _slice_arguments(node: Node, values: Sequence[Value | None], rank: int) -> tuple[list[int], ...]:
    given = node.attributes
    if "starts" in given:  # before opset 10
        starts, ends = list(given["starts"]), list(given["ends"])
        return starts, ends, list(given.get("axes", range(len(starts)))), [1] * len(starts)
    starts, ends = _whole_numbers(values[1]), _whole_numbers(values[2])
    axes = _whole_numbers(values[3]) if len(values) > 3 and values[3] else list(range(len(starts)))
    steps = _whole_numbers(values[4]) if len(values) > 4 and values[4] else [1] * len(starts)
    return starts, ends, axes, steps


def _axes(node: Node, values: Sequence[Value | None]) -> list[int]:
    if len(values) > 1 and values[1] is not None:
        return _whole_numbers(values[1])
    return list(node.attributes.get("axes", []))


def _whole_numbers(value: Value | None) -> list[int]:
    if not isinstance(value, Constant):
        raise Unsupported("its shape is computed; only constant ones are executed")
    return [int(number) for number in value.array.ravel()]


def _given(values: Sequence[Value | None]) -> Value:
    if not values or values[0] is None:
        raise Unsupported("it reads nothing")
    return values[0]
