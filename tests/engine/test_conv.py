"""Convolutions in native code against reference.py, bit for bit: every geometry, pattern, instruction set."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from shoestring.core.pattern import BlockPattern
from shoestring.engine import native, reference
from shoestring.engine.program import F32, Conv, Pool, Program, Requantise, Sum, Tensor

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")


@dataclass(frozen=True)
class Shape:
    """A convolution to make up: inputs, outputs, height, width, and the rest as in `Conv`."""

    inputs: int
    outputs: int
    height: int
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    @property
    def out(self) -> tuple[int, int, int]:
        sizes = (
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, before, after, dilation, kernel, stride in zip(
                (self.height, self.width),
                self.pads[:2],
                self.pads[2:],
                self.dilation,
                self.kernel,
                self.stride,
                strict=True,
            )
        )
        return (self.outputs, *sizes)  # type: ignore[return-value]


def weights(shape: Shape, rng: np.random.Generator, largest: int = 127) -> np.ndarray:
    size = (shape.outputs, shape.inputs // shape.groups, *shape.kernel)
    return rng.integers(-largest - (largest == 127), largest + 1, size).astype(np.int8)


def program(
    shape: Shape, weight: np.ndarray, rng: np.random.Generator, *, floats: bool = False, extras: bool = False
) -> Program:
    """One convolution; `extras`: with bounds, a table and a sum whose other tensor is the second input."""
    pool = Pool()
    # So that accumulators fill the range of codes and go beyond it.
    spread = 128 * np.sqrt(np.maximum(np.square(weight.astype(float)).reshape(len(weight), -1).sum(axis=1), 1))
    multiplier = (60 / spread).astype(np.float32)
    bias = rng.integers(-3000, 3000, shape.outputs).astype(np.int32)
    table = pool.add(rng.permutation(256).astype(np.uint8)) if extras else None
    requantise = Requantise(pool.add(bias), pool.add(multiplier), 0 if floats else int(rng.integers(256)))
    added = Sum()
    if extras:
        assert table is not None
        requantise = Requantise(requantise.bias, requantise.multiplier, requantise.zero, 3, 250, table)
        added = Sum(2, 1, pool.add(np.array([0.7, 0.6, -20.25], np.float32)), 2, 251, table)
    tensors = [Tensor("x", (shape.inputs, shape.height, shape.width)), Tensor("y", shape.out, F32 if floats else 0)]
    if extras:
        tensors.append(Tensor("z", shape.out))
    op = Conv(
        "conv", 0, 1, pool.add(weight), int(rng.integers(256)), shape.groups, shape.kernel, shape.stride,
        shape.dilation, shape.pads, requantise, added,
    )  # fmt: skip
    return Program(tuple(tensors), (op,), (0, 2) if extras else (0,), (1,), pool.bytes())


def check(made: Program, rng: np.random.Generator, isa: str, batch: int = 1, threads: int = 1) -> None:
    inputs = [rng.integers(0, 256, (batch, *made.tensors[i].shape)).astype(np.uint8) for i in made.inputs]
    (expected,) = reference.run(made, *inputs)
    (found,) = native.Network(made, threads=threads, isa=isa)(*inputs)
    assert np.array_equal(found, expected)


@pytest.fixture(params=native.isas() if native.available() else [])
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


SHAPES = {
    "pixels 1": Shape(8, 8, 1, 1),
    "pixels 7": Shape(8, 8, 1, 7),
    "pixels 16": Shape(12, 8, 4, 4),
    "pixels 17": Shape(12, 8, 1, 17),
    "pixels 31": Shape(4, 4, 1, 31),
    "pixels 49": Shape(36, 20, 7, 7),
    "pixels 65": Shape(8, 12, 5, 13),
    "many tiles": Shape(24, 16, 33, 37),
    "many inputs": Shape(1100, 8, 9, 9),
    "ragged channels": Shape(7, 5, 6, 9),
    "one output": Shape(5, 1, 6, 9),
    "one input": Shape(1, 6, 6, 9),
    "3x3": Shape(8, 12, 14, 14, (3, 3), pads=(1, 1, 1, 1)),
    "3x3 stem": Shape(3, 16, 31, 33, (3, 3), (2, 2), pads=(1, 1, 1, 1)),
    "3x3 same padding of an even picture": Shape(3, 8, 32, 32, (3, 3), (2, 2), pads=(0, 0, 1, 1)),
    "7x7 stem": Shape(3, 8, 32, 32, (7, 7), (2, 2), pads=(3, 3, 3, 3)),
    "1x1 strided": Shape(16, 8, 13, 14, (1, 1), (2, 2)),
    "5x5 dilated": Shape(5, 6, 17, 19, (5, 5), (1, 1), (2, 3), (4, 6, 4, 6)),
    "3x3 dilated and strided": Shape(8, 4, 17, 19, (3, 3), (3, 2), (2, 2), (2, 2, 1, 2)),
    "1x3": Shape(8, 8, 9, 11, (1, 3), pads=(0, 1, 0, 1)),
    "3x1": Shape(8, 8, 9, 11, (3, 1), (2, 1), pads=(1, 0, 1, 0)),
    "asymmetric pads": Shape(6, 7, 8, 10, (3, 4), pads=(0, 3, 2, 0)),
    "one row": Shape(8, 8, 1, 50, (1, 5), pads=(0, 2, 0, 2)),
    "kernel as large as the picture": Shape(8, 8, 6, 6, (6, 6)),
    "grouped": Shape(16, 24, 9, 9, (3, 3), pads=(1, 1, 1, 1), groups=4),
    "grouped, ragged": Shape(9, 15, 9, 9, (3, 3), pads=(1, 1, 1, 1), groups=3),
    "channel multiplier": Shape(6, 12, 9, 9, (3, 3), pads=(1, 1, 1, 1), groups=6),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("largest", [30, 127])
def test_geometries(shape: Shape, largest: int, isa: str) -> None:
    """Small weights, whose sums in 16 bits are exact, and all there are, which have to be widened."""
    rng = np.random.default_rng(0)
    check(program(shape, weights(shape, rng, largest), rng), rng, isa)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("pattern", ["4x1", "4x4", "1x1"])
def test_zeros(shape: Shape, pattern: str, isa: str) -> None:
    rng = np.random.default_rng(1)
    weight = weights(shape, rng)
    blocks = BlockPattern.parse(pattern)
    keep = rng.random(blocks.norms(weight, shape.groups).shape) < 0.3
    weight *= blocks.expand(keep, weight.shape, shape.groups)
    check(program(shape, weight, rng), rng, isa)


@pytest.mark.parametrize("name", ["many tiles", "3x3", "3x3 stem", "grouped, ragged", "pixels 49"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tables_sums_batches_threads(name: str, threads: int, isa: str) -> None:
    rng = np.random.default_rng(2)
    shape = SHAPES[name]
    check(program(shape, weights(shape, rng), rng, extras=True), rng, isa, batch=3, threads=threads)


@pytest.mark.parametrize("name", ["many tiles", "3x3", "3x3 stem", "pixels 1", "ragged channels"])
def test_float_outputs(name: str, isa: str) -> None:
    rng = np.random.default_rng(3)
    shape = SHAPES[name]
    check(program(shape, weights(shape, rng), rng, floats=True), rng, isa, batch=2)


@pytest.mark.parametrize("x", [0, 255])
@pytest.mark.parametrize("weight", [-128, -127, 127, 64, -64])
@pytest.mark.parametrize("zeros", [0.0, 0.7])
def test_extreme_values(weight: int, x: int, zeros: float, isa: str) -> None:
    """Where 16 bits saturate: every product as large as can be, of one sign and of both."""
    rng = np.random.default_rng(4)
    shape = Shape(40, 8, 5, 9)
    for sign in (1, rng.choice([1, -1], (8, 40, 1, 1))):
        values = np.clip(np.full((8, 40, 1, 1), weight) * sign, -128, 127)
        made = program(shape, (values * (rng.random((1, 40, 1, 1)) >= zeros)).astype(np.int8), rng)
        inputs = np.full((1, 40, 5, 9), x, np.uint8)
        assert np.array_equal(native.Network(made, isa=isa)(inputs)[0], reference.run(made, inputs)[0])


def test_no_weights_at_all(isa: str) -> None:
    rng = np.random.default_rng(5)
    check(program(Shape(8, 8, 5, 5), np.zeros((8, 8, 1, 1), np.int8), rng), rng, isa)


def test_accumulators_wrap_at_32_bits(isa: str) -> None:
    """As everywhere: a channel without weights to speak of may have a bias close to the largest."""
    made = program(Shape(4, 4, 3, 3), np.full((4, 4, 1, 1), 3, np.int8), np.random.default_rng(6))
    pool = Pool()
    bias = np.array([2**31 - 1, -(2**31), 2**31 - 2000, -(2**31) + 2000], np.int32)
    (conv,) = made.ops
    assert isinstance(conv, Conv)
    weight = pool.add(np.full((4, 4, 1, 1), 3, np.int8))
    how = Requantise(pool.add(bias), pool.add(np.full(4, 1e-8, np.float32)), 128)
    wraps = replace(made, ops=(replace(conv, weight=weight, x_zero=100, requantise=how),), pool=pool.bytes())
    inputs = np.random.default_rng(7).integers(0, 256, (1, 4, 3, 3)).astype(np.uint8)
    sums = 3 * (inputs.astype(np.int64) - 100).sum(axis=1, keepdims=True) + bias.astype(np.int64).reshape(4, 1, 1)
    wrapped = (sums + 2**31) % 2**32 - 2**31
    assert (wrapped != sums).any()
    expected = (np.rint(wrapped.astype(np.float32) * np.float32(1e-8)) + 128).astype(np.uint8)
    assert np.array_equal(reference.run(wraps, inputs)[0], expected)
    assert np.array_equal(native.Network(wraps, isa=isa)(inputs)[0], expected)
