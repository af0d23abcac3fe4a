"""The program as it grows: tensors, ops and constants, and the ops that every kind of value may need."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from shoestring.engine.lowering.graph import Unsupported
from shoestring.engine.lowering.values import Codes, Floats, Grid, Joined, Pending, Pointwise, Value
from shoestring.engine.lowering.views import MOST_FACTORS, View, copy_factors, sliced, whole
from shoestring.engine.program import F32, U8, Const, Copy, Dequantise, Op, Pool, Quantise, Table, Tensor

Six = tuple[int, int, int, int, int, int]


class Builder:
    """Ops that are asked for twice are written once."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.pool = Pool()
        self._made: dict[object, int] = {}  # what was asked for: its tensor
        self._outputs: set[int] = set()

    def tensor(self, name: str, shape: tuple[int, ...], dtype: int = U8) -> int:
        """A new tensor; `shape` of one image."""
        self.tensors.append(Tensor(name, tuple(int(size) for size in shape) or (1,), dtype))
        return len(self.tensors) - 1

    def like(self, tensor: int, name: str, dtype: int = U8) -> int:
        """A new tensor of another's shape."""
        return self.tensor(name, self.tensors[tensor].shape, dtype)

    def contiguous(self, value: Codes | Floats, shape: tuple[int, ...], name: str) -> int:
        """A tensor of `shape` with the elements of `value` in order."""
        source = self.tensors[value.tensor]
        table = value.table if isinstance(value, Codes) else None
        if value.view.is_whole() and source.shape == shape and table is None:
            return value.tensor

        def write() -> int:
            output = self.tensor(name, shape, source.dtype)
            self.copy(name, value, output, whole(value.view.shape))
            return output

        return self._once(("contiguous", value.tensor, value.view, shape, _key(table)), write)

    def copy(self, name: str, value: Codes | Floats, output: int, into: View, table: np.ndarray | None = None) -> None:
        """Copies what `value` sees to where `into` looks; `table` instead of its own."""
        if table is None and isinstance(value, Codes):
            table = value.table
        factors = copy_factors(value.view, into)
        if len(factors) > MOST_FACTORS:
            raise Unsupported(f"it moves elements along {len(factors)} axes at once, a copy has {MOST_FACTORS}")
        rows = [*factors, *[(1, 0, 0)] * (MOST_FACTORS - len(factors))]
        extents, strides, to_strides = (cast(Six, tuple(row[part] for row in rows)) for part in range(3))
        at = Const() if table is None else self.pool.add(table)
        self.ops.append(
            Copy(name, value.tensor, output, value.view.start, into.start, extents, strides, to_strides, at)
        )

    def looked_up(self, codes: Codes, table: np.ndarray, name: str) -> Codes:
        """`codes` looked up in `table` u8 [256]: at once for a whole tensor, whose maker may do it, else with the copy
        that the view will need."""
        if codes.table is not None:
            table = table[codes.table]
        if np.array_equal(table, np.arange(256)):
            return replace(codes, table=None)
        source = self.tensors[codes.tensor]
        if math.prod(codes.view.shape) != math.prod(source.shape) or not codes.view.is_permuted():
            return replace(codes, table=table)

        def write() -> int:
            output = self.like(codes.tensor, name)
            self.ops.append(Table(name, codes.tensor, output, self.pool.add(table)))
            return output

        return Codes(self._once(("table", codes.tensor, _key(table)), write), codes.view)

    def quantised(self, value: Value, grid: Grid, name: str) -> Codes:
        """The codes of a float value. It is elementwise, and done before what the view does."""
        if isinstance(value, Pointwise):
            return self.looked_up(value.codes, grid.codes(value.values), name)
        if isinstance(value, Floats):
            return Codes(
                self._once(("quantise", value.tensor, grid), lambda: self._quantise(value, grid, name)), value.view
            )
        if isinstance(value, Pending):
            low, high = (int(code) for code in grid.codes(np.array([value.low, value.high], np.float32)))
            key = ("pending", value.write, grid, low, high)
            tensor = self._once(key, lambda: value.write(grid, low, high))
            self._rename(tensor, name)
            return Codes(tensor, value.view)
        if isinstance(value, Joined):
            parts = [self.quantised(part, grid, name) for part in value.parts]
            return Codes(self._joined(value, parts, U8, name), whole(value.shape))
        raise Unsupported("it quantises what is no activation; store it as int8 with its scale")

    def floats(self, value: Value, name: str) -> Floats:
        """The elements of a float value as f32."""
        if isinstance(value, Floats):
            return value
        if isinstance(value, Pointwise):
            stored = value.stored()

            def write() -> int:
                output = self.like(value.codes.tensor, name, F32)
                self.ops.append(Dequantise(name, value.codes.tensor, output, self.pool.add(stored)))
                return output

            return Floats(self._once(("floats", value.codes.tensor, _key(stored)), write), value.view)
        if isinstance(value, Pending) and (value.low, value.high) == (-np.inf, np.inf):
            return Floats(self._once(("pending", value.write), lambda: value.write(None, 0, 255)), value.view)
        if isinstance(value, Joined):
            parts = [self.floats(part, name) for part in value.parts]
            return Floats(self._joined(value, parts, F32, name), whole(value.shape))
        raise Unsupported("its result is needed in floats; quantise it, or leave it to another runtime")

    def output(self, value: Codes | Floats, name: str, taken: Sequence[int]) -> int:
        """The tensor of an output, called `name`: one of its own, and no input."""
        shape = value.view.shape[1:] or (1,)
        index = self.contiguous(value, shape, name)
        if index in taken or index in self._outputs:
            index = self.tensor(name, shape, self.tensors[value.tensor].dtype)
            self.copy(name, value, index, whole(value.view.shape))
        self._outputs.add(index)
        self._rename(index, name)
        return index

    def _rename(self, index: int, name: str) -> None:
        self.tensors[index] = Tensor(name, self.tensors[index].shape, self.tensors[index].dtype)

    def _quantise(self, value: Floats, grid: Grid, name: str) -> int:
        output = self.like(value.tensor, name)
        scale = self.pool.add(np.array([grid.scale], np.float32))
        self.ops.append(Quantise(name, value.tensor, output, scale, grid.zero))
        return output

    def _joined(self, value: Joined, parts: Sequence[Codes | Floats], dtype: int, name: str) -> int:
        """One tensor, filled by a copy for each part."""
        shape = value.shape
        output = self.tensor(name, per_image(shape), dtype)
        at = 0
        for part in parts:
            count = part.view.shape[value.axis]
            into = sliced(whole(shape), value.axis, at, count)
            assert into is not None
            self.copy(name, part, output, into)
            at += count
        return output

    def _once(self, key: object, write: Callable[[], int]) -> int:
        if key not in self._made:
            self._made[key] = write()
        return self._made[key]


def per_image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the batch; a tensor that mixes the batch with other axes keeps all of them."""
    return shape[1:] if shape[:1] == (1,) else shape


def _key(table: np.ndarray | None) -> bytes:
    return b"" if table is None else table.tobytes()
