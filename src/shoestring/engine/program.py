"""A program: what the engine executes, as plain data, and its bytes.

`lower.py` makes one of an ONNX graph, `reference.py` executes it in NumPy, the native library loads its bytes. Every
shape is that of one image of the batch; a batch is so many images, one after the other.

Arithmetic. Quantised tensors are u8: a real value is `scale * (code - zero)`. Accumulators are int32 and wrap;
everything else rounds to nearest even in float32 and saturates:

- `requantised(acc) = clip(rne(float32(acc) * multiplier) + zero, low, high)`, then `table[...]` where there is one;
- `sum(a, b) = clip(rne(fma(a, scale_a, fma(b, scale_b, fixed))), low, high)` (what ONNX Runtime computes on processors
  with fused multiply-add), then `table[...]`.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np

MAGIC = b"SHOESTR1"
ALIGNMENT = 64
U8, F32, I32 = 0, 1, 2
DTYPES = (np.uint8, np.float32, np.int32)
NONE = -1


@dataclass(frozen=True)
class Tensor:
    """`shape`: of one image, row-major: (C, H, W) for pictures, (C,) for vectors, (rows, C) for tokens and points. I32:
    indices of points, which only `Farthest` and `Nearest` write and only `Take` and `Relative` read."""

    name: str
    shape: tuple[int, ...]
    dtype: int = U8


@dataclass(frozen=True)
class Const:
    """Bytes in the program's pool: `count` elements from byte `offset`. Absent: count 0."""

    offset: int = 0
    count: int = 0


@dataclass(frozen=True)
class Requantise:
    """From int32 accumulators to codes. `bias`: int32 [out], the zero point of the input *not* folded in; absent: 0.
    `multiplier`: float32 [out]. `table`: u8 [256], applied last; absent: none."""

    bias: Const
    multiplier: Const
    zero: int
    low: int = 0
    high: int = 255
    table: Const = Const()


@dataclass(frozen=True)
class Sum:
    """A second tensor, added to the codes that a layer would write: `sum(codes, tensor)`, or `sum(tensor, codes)` where
    `swapped` is 1: the roundings are not symmetric. `scales`: float32 [3]: scale_a, scale_b, fixed. `tensor` NONE:
    nothing is added."""

    tensor: int = NONE
    swapped: int = 0
    scales: Const = Const()
    low: int = 0
    high: int = 255
    table: Const = Const()


@dataclass(frozen=True)
class Op:
    """One operation. `kind` is its number in the bytes; `name` the node it came from. Fields are in byte order."""

    kind: ClassVar[int]
    name: str
    input: int
    output: int


@dataclass(frozen=True)
class Quantise(Op):
    """f32 to u8: clip(rne(x / scale) + zero, 0, 255); the division in float32. `scale`: float32 [1]."""

    kind: ClassVar[int] = 1
    scale: Const
    zero: int


@dataclass(frozen=True)
class Dequantise(Op):
    """u8 to f32 by `table` float32 [256]: a dequantisation, and any pointwise function behind it."""

    kind: ClassVar[int] = 2
    table: Const


@dataclass(frozen=True)
class Conv(Op):
    """Convolution [C, H, W] to [O, Ho, Wo], dense or with zeros: `weight` s8 [O, C / groups, kh, kw]; padding is
    `x_zero`. To an output of f32 it writes float32(acc) * multiplier and uses nothing else of `requantise` but the
    bias."""

    kind: ClassVar[int] = 3
    weight: Const
    x_zero: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]  # top, left, bottom, right
    requantise: Requantise
    sum: Sum = field(default_factory=Sum)


@dataclass(frozen=True)
class Linear(Op):
    """[..., K] to [..., O], row by row: `weight` s8 [O, K]; `bits` (8, 4, 2) is what its codes fit into, so that it may
    be kept packed. An output of f32 as in Conv."""

    kind: ClassVar[int] = 4
    weight: Const
    x_zero: int
    bits: int
    requantise: Requantise
    sum: Sum = field(default_factory=Sum)


@dataclass(frozen=True)
class Add(Op):
    """u8 + u8 of one shape: `sum(input, sum.tensor)`, or swapped."""

    kind: ClassVar[int] = 5
    sum: Sum


@dataclass(frozen=True)
class Mul(Op):
    """u8 x u8: requantised((a - zero_a) * (b - zero_b)); the output has the shape of `input`. `other` has that shape
    too, or one element a channel (the first axis of the image): a squeeze-excite gate. `requantise` has one multiplier
    and no bias."""

    kind: ClassVar[int] = 6
    other: int
    zero_a: int
    zero_b: int
    requantise: Requantise


@dataclass(frozen=True)
class MaxPool(Op):
    """[C, H, W] to [C, Ho, Wo]; padding never wins."""

    kind: ClassVar[int] = 7
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]


@dataclass(frozen=True)
class AveragePool(Op):
    """[C, H, W] to [C, Ho, Wo]: requantised(sum of (code - x_zero)) with the multiplier `s_x / (s_y * count)`. A global
    mean equals ONNX Runtime's; windows there are sums of dequantised floats, a code apart at rounding borders.
    `multiplier` has kh * kw elements, entry n - 1 for windows of n elements (padding is not counted unless
    `count_padding`, then the last entry always). The kernel of a global pool is the picture."""

    kind: ClassVar[int] = 8
    x_zero: int
    count_padding: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    requantise: Requantise


@dataclass(frozen=True)
class Table(Op):
    """u8 to u8, pointwise: `table` u8 [256]."""

    kind: ClassVar[int] = 9
    table: Const


@dataclass(frozen=True)
class Copy(Op):
    """output[to + sum(i * to_strides)] = table[input[start + sum(i * strides)]] for every i below `extents` (in
    elements, of one image): transposes, slices, splits, shuffles, repeats (stride 0) and parts of a concatenation.
    Several copies may fill one output; together they must fill all of it. u8 (with a table or none) or f32 (none)."""

    kind: ClassVar[int] = 10
    start: int
    to: int
    extents: tuple[int, int, int, int, int, int]
    strides: tuple[int, int, int, int, int, int]
    to_strides: tuple[int, int, int, int, int, int]
    table: Const = Const()


@dataclass(frozen=True)
class Softmax(Op):
    """f32 to f32 over the middle axis of [outer, length, inner]."""

    kind: ClassVar[int] = 11
    outer: int
    length: int
    inner: int


@dataclass(frozen=True)
class Farthest(Op):
    """f32 [N, 3] to i32 [count]: the point 0, then each time the one farthest from all before it. Distances, here and
    in Nearest, are squared: (dx * dx + dy * dy) + dz * dz without fused steps; of equal ones the lower index is
    first."""

    kind: ClassVar[int] = 12


@dataclass(frozen=True)
class Nearest(Op):
    """f32 centres [M, 3] to i32 [M, K]: the K nearest of the points `other` f32 [N, 3], nearest first. `radius`:
    float32 [1] or absent; of points whose squared distance is above its square the nearest stands in their place."""

    kind: ClassVar[int] = 13
    other: int
    radius: Const = Const()


@dataclass(frozen=True)
class Take(Op):
    """[N, C] to [R, C], u8 or f32: the rows that `index` i32 of R elements names."""

    kind: ClassVar[int] = 14
    index: int


@dataclass(frozen=True)
class Relative(Op):
    """f32 [N, C] to [M * K, C] f32 or u8: rows by `index` i32 [M, K], less row m of `other` f32 [M, C] (NONE: less
    nothing), times each of `factors` float32 in turn; to u8 then quantised as in Quantise, by `scale` float32 [1] and
    `zero`."""

    kind: ClassVar[int] = 15
    index: int
    other: int = NONE
    factors: Const = Const()
    scale: Const = Const()
    zero: int = 0


@dataclass(frozen=True)
class Highest(Op):
    """u8: the greatest code along the middle axis of [outer, length, inner], [outer, inner]."""

    kind: ClassVar[int] = 16
    outer: int
    length: int
    inner: int


def read_by(op: Op) -> list[int]:
    """The tensors that an op reads, twice where it reads them twice."""
    given = op.input, getattr(op, "sum", Sum()).tensor, getattr(op, "other", NONE), getattr(op, "index", NONE)
    return [index for index in given if index != NONE]


@dataclass(frozen=True)
class Program:
    """`inputs` are f32 tensors (or u8, as they are), `outputs` of either kind; ops are in executable order. `pool`: the
    constants, as bytes or as they were gathered."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    pool: "bytes | Pool"

    def const(self, at: Const, dtype: type[np.generic] | np.dtype) -> np.ndarray:
        """The elements of a constant, read-only."""
        if isinstance(self.pool, Pool):
            return self.pool.read(at, dtype)
        return np.frombuffer(self.pool, dtype, at.count, at.offset)

    def moved(self) -> list[int]:
        """Bytes of the tensors that each op reads and writes for an image."""
        sizes = [math.prod(tensor.shape) * np.dtype(DTYPES[tensor.dtype]).itemsize for tensor in self.tensors]
        return [sum(sizes[index] for index in (*read_by(op), op.output)) for op in self.ops]

    def to_bytes(self) -> bytes:
        """Little-endian. MAGIC; int32: tensors, ops, inputs, outputs; int64: bytes of the pool; for each tensor int32
        dtype, rank, extents; inputs; outputs; for each op int32 kind, number of words, words (the fields in order,
        flattened; a Const is offset / ALIGNMENT and count); padding to ALIGNMENT; the pool."""
        words: list[int] = []
        for tensor in self.tensors:
            words += [tensor.dtype, len(tensor.shape), *tensor.shape]
        words += [*self.inputs, *self.outputs]
        for op in self.ops:
            body = list(_flat(getattr(op, item.name) for item in fields(op) if item.name != "name"))
            words += [op.kind, len(body), *body]
        counts = (len(self.tensors), len(self.ops), len(self.inputs), len(self.outputs))
        parts = self.pool.parts() if isinstance(self.pool, Pool) else [self.pool]
        head = MAGIC + struct.pack("<4iq", *counts, sum(map(len, parts))) + np.array(words, "<i4").tobytes()
        return b"".join([head, bytes(-len(head) % ALIGNMENT), *parts])


class Pool:
    """Gathers the constants of a program. Small equal ones are stored once, and so is one array that is added twice."""

    def __init__(self) -> None:
        self._arrays: dict[int, np.ndarray] = {}  # by offset, in their order
        self._offsets: dict[object, int] = {}
        self._size = 0

    def add(self, array: np.ndarray) -> Const:
        data = np.ascontiguousarray(array)
        small = data.nbytes <= 4096
        key = data.tobytes() if small else (data.ctypes.data, data.nbytes)  # the array stays alive, so does its address
        if key not in self._offsets:
            self._offsets[key] = self._size
            self._arrays[self._size] = data
            self._size += -(-data.nbytes // ALIGNMENT) * ALIGNMENT
        return Const(self._offsets[key], data.size)

    def read(self, at: Const, dtype: type[np.generic] | np.dtype) -> np.ndarray:
        """The elements of a constant that was added."""
        return self._arrays[at.offset].reshape(-1).view(dtype)[: at.count]

    def parts(self) -> list["bytes | memoryview"]:
        """The pool's bytes, in pieces: a network's weights need no second copy."""
        parts: list[bytes | memoryview] = []
        for data in self._arrays.values():
            parts += [data.reshape(-1).view(np.uint8).data, bytes(-data.nbytes % ALIGNMENT)]
        return parts

    def bytes(self) -> bytes:
        return b"".join(self.parts())


def _flat(values: Iterable[object]) -> Iterable[int]:
    for value in values:
        if isinstance(value, Const):
            yield from (value.offset // ALIGNMENT, value.count)
        elif isinstance(value, tuple):
            yield from value
        elif isinstance(value, Requantise | Sum):
            yield from _flat(getattr(value, item.name) for item in fields(value))
        else:
            yield int(value)  # type: ignore[call-overload]
