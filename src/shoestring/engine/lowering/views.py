"""Views: elements of a tensor in another order, without moving them.

An axis is a list of factors (extent, stride), the last running fastest: an axis of one factor is an ordinary stride;
several make a reshape of what was transposed, or a nearest resize (stride 0), one axis again. So every reshape,
transpose, slice, repeat and channel shuffle is arithmetic here, and one copy when a kernel needs the data in order.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

Factor = tuple[int, int]
Axis = tuple[Factor, ...]
MOST_FACTORS = 6  # of a Copy


@dataclass(frozen=True)
class View:
    """Element (i, j, ...) is `start` plus the strides of its factors into the tensor's elements."""

    axes: tuple[Axis, ...]
    start: int = 0

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(extent(axis) for axis in self.axes)

    def is_whole(self) -> bool:
        """Every element from the first, in order."""
        return self.start == 0 and merged(f for axis in self.axes for f in axis) in ((), ((math.prod(self.shape), 1),))

    def is_permuted(self) -> bool:
        """Every element from the first, once, in any order of the factors."""
        factors = sorted((f for axis in self.axes for f in axis if f[0] > 1), key=lambda f: -f[1])
        return View((tuple(factors),), self.start).is_whole()


def whole(shape: Sequence[int]) -> View:
    steps = [math.prod(shape[index + 1 :]) for index in range(len(shape))]
    return View(tuple(((size, step),) for size, step in zip(shape, steps, strict=True)))


def extent(axis: Axis) -> int:
    return math.prod(size for size, _ in axis)


def merged(factors: Iterable[Factor]) -> Axis:
    """The same elements in the same order with as few factors as possible."""
    kept: list[Factor] = []
    for size, step in factors:
        if size == 1:
            continue
        if kept and kept[-1][1] == size * step:
            kept[-1] = (kept[-1][0] * size, step)
        else:
            kept.append((size, step))
    return tuple(kept)


def transposed(view: View, order: Sequence[int]) -> View:
    return View(tuple(view.axes[axis] for axis in order), view.start)


def stored_order(view: View) -> list[int]:
    """The axes in the order in which memory has them: a transposed tensor is worked on where it lies."""
    return sorted(range(len(view.axes)), key=lambda axis: (view.axes[axis] != ((1, 0),), -view.axes[axis][0][1]))


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """None where a factor would have to be cut unevenly, or a copy would need too many."""
    left = list(merged(factor for axis in view.axes for factor in axis))
    if len(left) > MOST_FACTORS:
        return None
    axes: list[Axis] = []
    for size in reversed(shape):
        axis: list[Factor] = []
        while size > 1:
            if not left:
                return None
            count, step = left.pop()
            shared = math.gcd(count, size)
            if shared != min(count, size):
                return None
            axis.append((shared, step))
            size //= shared
            if count > shared:
                left.append((count // shared, step * shared))
        axes.append(merged(reversed(axis)) or ((1, 0),))
    return None if left else View(tuple(reversed(axes)), view.start)


def sliced(view: View, axis: int, start: int, count: int, step: int = 1) -> View | None:
    """`count` >= 1 elements of an axis from `start`, every `step`-th. None for an axis of several factors."""
    factors = merged(view.axes[axis]) or ((1, 0),)
    if len(factors) > 1:
        return view if (start, count, step) == (0, extent(factors), 1) else None
    stride = factors[0][1]
    axes = (*view.axes[:axis], ((count, stride * step),), *view.axes[axis + 1 :])
    return View(axes, view.start + start * stride)


def without(view: View, axis: int) -> View:
    """Drops an axis of one element."""
    return View(view.axes[:axis] + view.axes[axis + 1 :], view.start)


def with_one(view: View, axis: int) -> View:
    """Puts in an axis of one element."""
    return View((*view.axes[:axis], ((1, 0),), *view.axes[axis:]), view.start)


def repeated(view: View, axis: int, times: int) -> View:
    """Each element of an axis so many times in a row."""
    return View((*view.axes[:axis], (*view.axes[axis], (times, 0)), *view.axes[axis + 1 :]), view.start)


def broadcast(view: View, shape: Sequence[int]) -> View:
    """Numpy's rules. Raises ValueError where they do not allow it."""
    axes = [((1, 0),)] * (len(shape) - len(view.axes)) + list(view.axes)
    if len(axes) > len(shape):
        raise ValueError(f"{view.shape} does not broadcast to {tuple(shape)}")
    for index, size in enumerate(shape):
        if (now := extent(axes[index])) != size:
            if now != 1:
                raise ValueError(f"{view.shape} does not broadcast to {tuple(shape)}")
            axes[index] = ((size, 0),)
    return View(tuple(axes), view.start)


def copy_factors(source: View, target: View) -> list[tuple[int, int, int]]:
    """(extent, stride in the source, stride in the target) of a copy between two views of one shape; the target's axes
    have one factor each."""
    found: list[tuple[int, int, int]] = []
    for axis, ((_, step),) in zip(source.axes, target.axes, strict=True):
        inner = extent(axis)
        for size, stride in axis:
            inner //= size
            if size == 1:
                continue
            to = step * inner
            if found and found[-1][1] == size * stride and found[-1][2] == size * to:
                found[-1] = (found[-1][0] * size, stride, to)
            else:
                found.append((size, stride, to))
    return found
