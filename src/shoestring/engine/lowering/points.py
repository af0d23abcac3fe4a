"""Points in space: sampling, neighbours and the rows that they name, and the float arithmetic on coordinates in front
of the first quantiser. What the operators compute: domain `shoestring` of `deploy.geometry`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shoestring.engine.lowering.builder import Builder
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.layers import check_multipliers
from shoestring.engine.lowering.values import (
    Codes,
    Constant,
    Floats,
    Grid,
    Indices,
    Pending,
    Pointwise,
    Value,
    shape_of,
)
from shoestring.engine.lowering.views import broadcast, whole
from shoestring.engine.program import F32, I32, NONE, U8, Const, Farthest, Nearest, Relative, Take

UNBOUNDED = -math.inf, math.inf


@dataclass(frozen=True, eq=False)
class Gathered:
    """Rows [R, C] of floats that wait for a grid, or for more arithmetic: those of tensor `source` that `index` names,
    less those of `other`, times `factors`."""

    builder: Builder = field(repr=False)
    name: str
    source: int
    index: int
    rows: tuple[int, int]
    other: int = NONE
    factors: tuple[np.float32, ...] = ()

    def __call__(self, grid: Grid | None, low: int, high: int) -> int:
        if grid is not None and (low, high) != (0, 255):
            raise Unsupported("a bound stands between coordinates and their quantiser; quantise before it")
        builder = self.builder
        output = builder.tensor(self.name, self.rows, F32 if grid is None else U8)
        if grid is None and self.other == NONE and not self.factors:
            builder.ops.append(Take(self.name, self.source, output, self.index))
            return output
        factors, scale, zero = Const(), Const(), 0
        if self.factors:
            factors = builder.pool.add(np.array(self.factors, np.float32))
        if grid is not None:
            scale, zero = builder.pool.add(np.array([grid.scale], np.float32)), grid.zero
        builder.ops.append(Relative(self.name, self.source, output, self.index, self.other, factors, scale, zero))
        return output


def farthest(node: Node, values: Sequence[Value | None], builder: Builder) -> Indices:
    """FarthestPoints(xyz [1, N, 3]; count): [1, count]."""
    source, points = _coordinates(values[0], node.name, builder)
    count = _count(node, points)
    output = builder.tensor(node.name, (count,), I32)
    builder.ops.append(Farthest(node.name, source, output))
    return Indices(output, whole((1, count)), points)


def nearest(node: Node, values: Sequence[Value | None], builder: Builder) -> Indices:
    """NearestPoints(centres [1, M, 3], xyz [1, N, 3]; count), and PointsWithin, which has a radius: [1, M, count]."""
    centres, many = _coordinates(values[0], f"{node.name}/centres", builder)
    source, points = _coordinates(values[1], f"{node.name}/points", builder)
    count, radius = _count(node, points), Const()
    if node.op.endswith("PointsWithin"):
        limit = np.array([node.attributes["radius"]], np.float32)
        check_multipliers(limit)
        radius = builder.pool.add(limit)
    output = builder.tensor(node.name, (many, count), I32)
    builder.ops.append(Nearest(node.name, centres, output, source, radius))
    return Indices(output, whole((1, many, count)), points)


def take(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """TakePoints(x [1, N, C], index [1, M] or [1, M, K]): [1, M, C] or [1, M, K, C]."""
    x, index = values
    if not isinstance(index, Indices) or not index.view.is_whole():
        raise Unsupported("its indices are not those that an operator of points gives")
    if x is None or isinstance(x, Constant) or len(shape_of(x)) != 3 or shape_of(x)[0] != 1:
        raise Unsupported("it takes no rows of points, [batch, points, channels]")
    (points, width), places = shape_of(x)[1:], index.view.shape[1:]
    if index.points > points:
        raise Unsupported(f"its indices are of {index.points} points, it has {points} rows")
    made, rows = whole((1, *places, width)), (math.prod(places), width)
    if isinstance(x, Codes | Pointwise):
        codes = x.codes if isinstance(x, Pointwise) else x
        source = builder.contiguous(codes, (points, width), f"{node.name}/input")
        output = builder.tensor(node.name, rows)
        builder.ops.append(Take(node.name, source, output, index.tensor))
        taken = Codes(output, made)
        return replace(x, codes=taken) if isinstance(x, Pointwise) else taken
    floats = builder.floats(x, f"{node.name}/floats")
    source = builder.contiguous(floats, (points, width), f"{node.name}/input")
    return Pending(Gathered(builder, node.name, source, index.tensor, rows), made)


def arithmetic(node: Node, a: Value, b: Value, builder: Builder) -> Value | None:
    """Coordinates of neighbours less those of their centres, and what they are multiplied by; None for anything
    else."""
    if node.op == "Mul" and isinstance(a, Constant):
        a, b = b, a
    if not isinstance(a, Pending) or not isinstance(a.write, Gathered) or (a.low, a.high) != UNBOUNDED:
        return None
    if node.op == "Mul" and isinstance(b, Constant) and b.array.size == 1 and b.array.ndim <= len(a.view.shape):
        factors = *a.write.factors, b.array.astype(np.float32).ravel()[0]
        return replace(a, write=replace(a.write, name=node.name, factors=factors))
    if node.op != "Sub" or a.write.other != NONE or a.write.factors or not isinstance(b, Floats | Pending):
        return None
    centres = builder.floats(b, f"{node.name}/centres")
    (rows, width), count = a.write.rows, math.prod(builder.tensors[centres.tensor].shape)
    if broadcast(centres.view, a.view.shape).start or count % width or rows % (count // width):
        raise Unsupported("what it subtracts are not the centres of the neighbours that it reads")
    # By the stride of an axis in the rows [M, K, C] of neighbours: the one that the centres [M, C] must have.
    each = rows * width // count
    strides = {1: 1} | {width: 0} | {each * width: width}
    for mine, theirs in zip(a.view.axes, broadcast(centres.view, a.view.shape).axes, strict=True):
        for size, stride in mine:
            if size > 1 and theirs != ((size, strides.get(stride)),):
                raise Unsupported("what it subtracts are not the centres of the neighbours that it reads")
    return replace(a, write=replace(a.write, name=node.name, other=centres.tensor))


def _coordinates(value: Value | None, name: str, builder: Builder) -> tuple[int, int]:
    """The tensor f32 [N, 3] of points [1, N, 3], and N."""
    if value is None or isinstance(value, Constant) or shape_of(value)[:1] + shape_of(value)[2:] != (1, 3):
        raise Unsupported("it reads no points, [batch, points, 3]")
    points = shape_of(value)[1]
    return builder.contiguous(builder.floats(value, name), (points, 3), name), points


def _count(node: Node, points: int) -> int:
    count = node.attributes["count"]
    if not isinstance(count, int) or not 1 <= count <= points:
        raise Unsupported(f"{count} of {points} points cannot be had")
    return count
