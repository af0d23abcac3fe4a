"""What a tensor of the ONNX graph is while it is lowered. Its elements need not exist anywhere yet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from onnx import TensorProto, numpy_helper

from shoestring.engine.lowering.views import View

INFINITY = float("inf")
CODES = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class Grid:
    """A real value is float32 `scale * (code - zero)`."""

    scale: np.float32
    zero: int

    def values(self) -> np.ndarray:
        """float32 [256]."""
        return (CODES - np.float32(self.zero)) * self.scale

    def codes(self, values: np.ndarray) -> np.ndarray:
        """u8 codes of float32 values, as QuantizeLinear computes them."""
        rounded = np.rint(values.astype(np.float32) / self.scale)
        low, high = np.float32(-self.zero), np.float32(255 - self.zero)
        return (np.minimum(np.maximum(rounded, low), high) - low).astype(np.uint8)


@dataclass(frozen=True)
class Constant:
    """Known now."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


@dataclass(frozen=True)
class Encoded:
    """A dequantised constant: `codes` times `scales` (one, or one for each index of `axis`), less `zeros`."""

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def decoded(self) -> Constant:
        along = [1] * self.codes.ndim
        if self.scales.size > 1:
            along[self.axis] = -1
        zeros = self.zeros.astype(np.int32).reshape(along if self.zeros.size > 1 else [1] * self.codes.ndim)
        return Constant((self.codes.astype(np.int32) - zeros).astype(np.float32) * self.scales.reshape(along))


@dataclass(frozen=True)
class Codes:
    """u8 elements of a tensor of the program (by its index), looked up in `table` u8 [256] where there is one."""

    tensor: int
    view: View
    table: np.ndarray | None = None


@dataclass(frozen=True)
class Floats:
    """f32 elements of a tensor of the program."""

    tensor: int
    view: View


@dataclass(frozen=True)
class Indices:
    """i32 elements of a tensor of the program: numbers of points, each below `points`."""

    tensor: int
    view: View
    points: int


@dataclass(frozen=True)
class Pointwise:
    """A float function of codes: `values` float32 [256]. `grid`: where it is a plain dequantisation."""

    codes: Codes
    values: np.ndarray
    grid: Grid | None = None

    @property
    def view(self) -> View:
        return self.codes.view

    def stored(self) -> np.ndarray:
        """The values of the tensor's own codes, before the table."""
        return self.values if self.codes.table is None else self.values[self.codes.table]


@dataclass(frozen=True)
class Pending:
    """The float result of an op that waits for the grid of its output, between `low` and `high`. `write(grid, low,
    high)` adds the op and returns its tensor; with grid None it writes floats, or raises Unsupported."""

    write: Callable[[Grid | None, int, int], int]
    view: View
    low: float = -INFINITY
    high: float = INFINITY


@dataclass(frozen=True)
class Joined:
    """Float values side by side along an axis."""

    parts: tuple["Placed", ...]
    axis: int

    def each(self, change: Callable[["Placed"], "Value"]) -> "Joined":
        """The parts changed one by one."""
        return replace(self, parts=tuple(cast("Placed", change(part)) for part in self.parts))

    @property
    def shape(self) -> tuple[int, ...]:
        shape = list(self.parts[0].view.shape)
        shape[self.axis] = sum(part.view.shape[self.axis] for part in self.parts)
        return tuple(shape)


Placed = Codes | Floats | Indices | Pointwise | Pending
Value = Constant | Encoded | Placed | Joined


def viewed(value: Placed, view: View) -> Placed:
    if isinstance(value, Pointwise):
        return replace(value, codes=replace(value.codes, view=view))
    return replace(value, view=view)


def shape_of(value: Value) -> tuple[int, ...]:
    return value.view.shape if isinstance(value, Placed) else value.shape


def array_of(tensor: TensorProto) -> np.ndarray:
    """A constant, without a copy where its bytes lie in the file."""
    dtype, field = _STORED.get(tensor.data_type, (None, ""))
    if dtype is None or tensor.external_data:
        return numpy_helper.to_array(tensor)
    raw = tensor.raw_data
    flat = np.frombuffer(raw, dtype) if raw else np.array(getattr(tensor, field), dtype)
    return flat.reshape(tuple(tensor.dims))


# Numbers as they lie in `raw_data`, and the field that holds them where there is none.
_STORED: dict[int, tuple[np.dtype, str]] = {
    TensorProto.FLOAT: (np.dtype("<f4"), "float_data"),
    TensorProto.INT8: (np.dtype("i1"), "int32_data"),
    TensorProto.UINT8: (np.dtype("u1"), "int32_data"),
    TensorProto.INT32: (np.dtype("<i4"), "int32_data"),
    TensorProto.INT64: (np.dtype("<i8"), "int64_data"),
}
