"""Ops that one pass over the data can do together. Each fused op computes what its parts would, to the last bit."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from shoestring.engine.program import (
    NONE,
    U8,
    Add,
    AveragePool,
    Const,
    Conv,
    Copy,
    Linear,
    Mul,
    Op,
    Pool,
    Requantise,
    Sum,
    Table,
    Tensor,
    read_by,
)

How = TypeVar("How", Requantise, Sum)


def fused(ops: Sequence[Op], tensors: Sequence[Tensor], outputs: Sequence[int], pool: Pool) -> list[Op]:
    """`ops` with tables put into the ops whose codes they look up, and sums into the layers that make one of their
    terms, where nothing else reads what is between. A fused op stands where the last of its parts stood, so that all
    that it reads is ready."""
    readers = Counter(outputs)
    for op in ops:
        readers.update(read_by(op))
    kept: dict[int, Op] = {}  # by a number that grows
    makers: dict[int, list[int]] = {}  # tensor: the ops in `kept` that fill it
    for number, op in enumerate(ops):
        alone = sorted((t for t in read_by(op) if readers[t] == 1 and t in makers), key=lambda t: makers[t][-1])
        between = {tensor: [kept[at] for at in makers[tensor]] for tensor in alone}
        gone, parts = _merged(op, between, tensors, pool)
        for at in makers.pop(gone, []) if parts else []:
            del kept[at]
        for part, whole in enumerate(parts or [op]):
            at = number * len(ops) + part
            kept[at] = whole
            makers.setdefault(op.output, []).append(at)
    return list(kept.values())


def _merged(op: Op, between: Mapping[int, list[Op]], tensors: Sequence[Tensor], pool: Pool) -> tuple[int, list[Op]]:
    """The tensor that need not exist, and what `op` and the ops that fill it become together; none: they stay."""
    if isinstance(op, Table):
        wholes = [_with_table(maker, op, pool) for maker in between.get(op.input, [])]
        return op.input, [] if None in wholes else [whole for whole in wholes if whole]
    if isinstance(op, Copy) and not op.table.count:
        return op.input, [
            replace(op, input=maker.input, table=maker.table)
            for maker in between.get(op.input, [])
            if isinstance(maker, Table)
        ]
    if isinstance(op, Add):
        for tensor in list(between)[::-1]:  # the one made last, whose neighbour is ready then
            if whole := _with_sum(between[tensor][-1], op, tensors):
                return tensor, [whole]
    return NONE, []


def _with_table(maker: Op, table: Table, pool: Pool) -> Op | None:
    if isinstance(maker, Conv | Linear | Add) and maker.sum.tensor != NONE:
        return replace(maker, output=table.output, sum=_looked_up(maker.sum, table.table, pool))
    if isinstance(maker, Conv | Linear | Mul | AveragePool):
        return replace(maker, output=table.output, requantise=_looked_up(maker.requantise, table.table, pool))
    if isinstance(maker, Copy):
        return replace(maker, output=table.output, table=_composed(maker.table, table.table, pool))
    return None


def _looked_up(how: How, at: Const, pool: Pool) -> How:
    """`how` with another table behind it; one that only clips moves the bounds."""
    table = pool.read(at, np.uint8)
    low, high = int(table[0]), int(table[-1])
    if not how.table.count and low <= high and np.array_equal(table, np.clip(np.arange(256), low, high)):
        return replace(how, low=min(max(how.low, low), high), high=min(max(how.high, low), high))
    return replace(how, table=_composed(how.table, at, pool))


def _composed(first: Const, second: Const, pool: Pool) -> Const:
    """One table for two."""
    if not first.count:
        return second
    return pool.add(pool.read(second, np.uint8)[pool.read(first, np.uint8)])


def _with_sum(layer: Op, add: Add, tensors: Sequence[Tensor]) -> Op | None:
    if not isinstance(layer, Conv | Linear) or layer.sum.tensor != NONE or tensors[layer.output].dtype != U8:
        return None
    second = layer.output == add.sum.tensor
    other = add.input if second else add.sum.tensor
    return replace(layer, output=add.output, sum=replace(add.sum, tensor=other, swapped=int(second)))
