"""Copy: every instruction set against the reference, bit for bit. Softmax: against float64."""

from collections.abc import Callable
from math import prod

import numpy as np
import pytest

from shoestring.engine import native
from shoestring.engine.program import F32, U8, Const, Copy, Pool, Program, Softmax, Tensor

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

Check = Callable[..., list[np.ndarray]]
Six = tuple[int, int, int, int, int, int]


def six(values: tuple[int, ...], filling: int) -> Six:
    """Outer axes of one element are added."""
    padded = (filling,) * (6 - len(values)) + values
    assert len(padded) == 6
    return padded[0], padded[1], padded[2], padded[3], padded[4], padded[5]


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def inputs(dtype: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, shape, dtype=np.uint8)
    return drawn if dtype == U8 else (drawn * rng.random(shape)).astype(np.float32)


@pytest.mark.parametrize("dtype", [U8, F32])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 17, 19), (1, 2, 0)),
        ((17, 19, 3), (2, 0, 1)),
        ((40, 33), (1, 0)),
        ((2, 3, 4, 5, 6, 7), (5, 4, 3, 2, 1, 0)),
        ((2, 30, 5, 5), (1, 0, 2, 3)),
        ((4, 4, 8, 8), (2, 0, 3, 1)),
        ((1, 1, 200), (2, 1, 0)),
        ((100, 70), (0, 1)),
        ((5,), (0,)),
    ],
)
def test_transposes(check: Check, shape: tuple[int, ...], axes: tuple[int, ...], dtype: int) -> None:
    pool = Pool()
    extents = tuple(shape[a] for a in axes)
    steps = tuple(strides(shape)[a] for a in axes)
    table = pool.add(np.random.default_rng(0).permutation(256).astype(np.uint8))
    for chosen in (Const(), table) if dtype == U8 else (Const(),):
        op = Copy("c", 0, 1, 0, 0, six(extents, 1), six(steps, 0), six(strides(extents), 0), chosen)
        program = Program((Tensor("x", shape, dtype), Tensor("y", extents, dtype)), (op,), (0,), (1,), pool.bytes())
        x = inputs(dtype, 2, *shape)
        result = check(program, x)[0]
        if chosen is not table:
            np.testing.assert_array_equal(result, x.transpose(0, *(a + 1 for a in axes)))


@pytest.mark.parametrize("dtype", [U8, F32])
def test_parts_of_a_concatenation(check: Check, dtype: int) -> None:
    """[3, 5, 7] and every second row, backwards, of [2, 10, 7] side by side in [5, 5, 7]."""
    ops = (
        Copy("a", 0, 2, 0, 0, six((105,), 1), six((1,), 0), six((1,), 0)),
        Copy("b", 1, 2, 63, 105, six((2, 5, 7), 1), six((70, -14, 1), 0), six((35, 7, 1), 0)),
    )
    tensors = Tensor("a", (3, 5, 7), dtype), Tensor("b", (2, 10, 7), dtype), Tensor("y", (5, 5, 7), dtype)
    a, b = inputs(dtype, 2, 3, 5, 7), inputs(dtype, 2, 2, 10, 7)
    result = check(Program(tensors, ops, (0, 1), (2,), b""), a, b)[0]
    np.testing.assert_array_equal(result, np.concatenate([a, b[:, :, 9::-2]], axis=1))


@pytest.mark.parametrize("factor", [2, 3])
def test_upsampling(check: Check, factor: int) -> None:
    """Nearest neighbours: strides of 0."""
    shape, wide = (4, 6, 35), (4, 6 * factor, 35 * factor)
    row = 35 * factor
    op = Copy(
        "up", 0, 1, 0, 0, six((4, 6, factor, 35, factor), 1), six((210, 35, 0, 1, 0), 0),
        six((6 * factor * row, factor * row, row, factor, 1), 0),
    )  # fmt: skip
    x = inputs(U8, 2, *shape)
    result = check(Program((Tensor("x", shape), Tensor("y", wide)), (op,), (0,), (1,), b""), x)[0]
    np.testing.assert_array_equal(result, x.repeat(factor, axis=2).repeat(factor, axis=3))


def test_one_long_run_with_a_table(check: Check) -> None:
    pool = Pool()
    op = Copy("c", 0, 1, 3, 0, six((99_990,), 1), six((1,), 0), six((1,), 0), pool.add(np.arange(256, dtype=np.uint8)))
    program = Program((Tensor("x", (100_000,)), Tensor("y", (99_990,))), (op,), (0,), (1,), pool.bytes())
    check(program, inputs(U8, 2, 100_000))


@pytest.mark.parametrize(("outer", "length", "inner"), [(1, 1000, 1), (7, 2, 1), (1, 11, 33), (3, 50, 4), (2, 1, 5)])
def test_softmax(outer: int, length: int, inner: int) -> None:
    """Relative to float64: 1.5e-7 of the exponential, as much of the sum, the quotient's and the difference's rounding
    (up to 2^-24 * 40 in the exponent)."""
    x = np.random.default_rng(0).standard_normal((2, outer, length, inner)).astype(np.float32) * 9
    wide = np.exp(x.astype(np.float64) - x.max(axis=2, keepdims=True))
    expected = wide / wide.sum(axis=2, keepdims=True)
    op = Softmax("s", 0, 1, outer, length, inner)
    shape = (outer, length, inner)
    program = Program((Tensor("x", shape, F32), Tensor("y", shape, F32)), (op,), (0,), (1,), b"")
    for isa in native.isas():
        for threads in (1, 3):
            got = native.Network(program, threads=threads, isa=isa)(x)[0]
            np.testing.assert_allclose(got, expected, rtol=3e-6, atol=1e-37)


def test_softmax_of_extreme_values() -> None:
    tensors = Tensor("x", (4,), F32), Tensor("y", (4,), F32)
    program = Program(tensors, (Softmax("s", 0, 1, 1, 4, 1),), (0,), (1,), b"")
    x = np.array([[3e38, -3e38, 3e38, 0]], np.float32)
    for isa in native.isas():
        found = native.Network(program, threads=1, isa=isa)(x)[0]
        np.testing.assert_allclose(found, [[0.5, 0, 0.5, 0]], atol=1e-30)
