"""Quantise, Dequantise, Add, Mul and Table: every instruction set against the reference, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest

from shoestring.engine import native
from shoestring.engine.program import (
    F32,
    Add,
    Const,
    Dequantise,
    Mul,
    Op,
    Pool,
    Program,
    Quantise,
    Requantise,
    Sum,
    Table,
    Tensor,
)

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

Check = Callable[..., list[np.ndarray]]
SIZES = (1, 7, 31, 32, 33, 63, 64, 65, 127, 128, 200, 1025, 20_000)  # around a vector, two and a thread's chunk


def codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """u8, with more of the extreme values than chance would give."""
    drawn = rng.integers(0, 256, shape, dtype=np.uint8)
    return np.where(rng.random(shape) < 0.2, rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), shape), drawn)


def one_op(pool: Pool, op: Op, *tensors: Tensor) -> Program:
    """All tensors but the last are inputs."""
    return Program(tensors, (op,), tuple(range(len(tensors) - 1)), (len(tensors) - 1,), pool.bytes())


@pytest.mark.parametrize("n", SIZES)
def test_quantise(check: Check, n: int) -> None:
    rng, pool = np.random.default_rng(n), Pool()
    op = Quantise("q", 0, 1, pool.add(np.array([0.037], np.float32)), 114)
    x = (rng.standard_normal((2, n)) * 6).astype(np.float32)
    x.ravel()[: min(n, 4)] = [1e37, -1e37, np.inf, -np.inf][: min(n, 4)]
    check(one_op(pool, op, Tensor("x", (n,), F32), Tensor("y", (n,))), x)


@pytest.mark.parametrize("zero", [0, 1, 128, 255])
def test_quantise_rounds_to_even(check: Check, zero: int) -> None:
    """Halves exactly, and the floats on both sides of them."""
    pool = Pool()
    halves = np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)
    x = np.concatenate([halves, np.nextafter(halves, np.float32(-999)), np.nextafter(halves, np.float32(999))])
    op = Quantise("q", 0, 1, pool.add(np.array([1], np.float32)), zero)
    check(one_op(pool, op, Tensor("x", (len(x),), F32), Tensor("y", (len(x),))), x[None])


@pytest.mark.parametrize("n", SIZES)
def test_dequantise(check: Check, n: int) -> None:
    rng, pool = np.random.default_rng(n), Pool()
    op = Dequantise("d", 0, 1, pool.add(rng.standard_normal(256).astype(np.float32)))
    check(one_op(pool, op, Tensor("x", (n,)), Tensor("y", (n,), F32)), codes(rng, 2, n))


@pytest.mark.parametrize("n", SIZES)
def test_table(check: Check, n: int) -> None:
    rng, pool = np.random.default_rng(n), Pool()
    op = Table("t", 0, 1, pool.add(rng.integers(0, 256, 256, dtype=np.uint8)))
    check(one_op(pool, op, Tensor("x", (n,)), Tensor("y", (n,))), codes(rng, 2, n))


def test_table_of_every_code(check: Check) -> None:
    pool, every = Pool(), np.arange(256, dtype=np.uint8)
    for table in (every, 255 - every, np.random.default_rng(0).permutation(every)):
        program = one_op(pool, Table("t", 0, 1, pool.add(table)), Tensor("x", (256,)), Tensor("y", (256,)))
        np.testing.assert_array_equal(check(program, every[None])[0][0], table)


@pytest.mark.parametrize("swapped", [0, 1])
@pytest.mark.parametrize("n", SIZES)
def test_add(check: Check, n: int, swapped: int) -> None:
    rng, pool = np.random.default_rng(n), Pool()
    scales = pool.add(np.array([0.7123, 1.3071, -33.77], np.float32))
    table = pool.add(rng.permutation(256).astype(np.uint8)) if n % 2 else Const()
    op = Add("a", 0, 2, Sum(1, swapped, scales, 10, 250, table))
    tensors = Tensor("a", (n,)), Tensor("b", (n,)), Tensor("y", (n,))
    check(one_op(pool, op, *tensors), codes(rng, 2, n), codes(rng, 2, n))


@pytest.mark.parametrize("scales", [(0.5, 0.5, 0.0), (1.1, 0.9, 0.5), (1e5, -1e5, 77.0), (1e-20, 1.0, 0.0)])
def test_add_of_every_pair(check: Check, scales: tuple[float, float, float]) -> None:
    """Ties, large magnitudes, and products that vanish beside the rest: where one rounding differs from two."""
    pool = Pool()
    a, b = np.indices((256, 256), np.uint8).reshape(2, 1, -1)
    op = Add("a", 0, 2, Sum(1, 0, pool.add(np.array(scales, np.float32))))
    tensors = Tensor("a", (65536,)), Tensor("b", (65536,)), Tensor("y", (65536,))
    check(one_op(pool, op, *tensors), a, b)


@pytest.mark.parametrize("multiplier", [1 / 255, 0.00317, 7.5, 30_000.0])
@pytest.mark.parametrize("zeros", [(0, 0, 0), (128, 3, 200), (255, 255, 255)])
def test_product_of_every_pair(check: Check, zeros: tuple[int, int, int], multiplier: float) -> None:
    pool = Pool()
    a, b = np.indices((256, 256), np.uint8).reshape(2, 1, -1)
    how = Requantise(Const(), pool.add(np.array([multiplier], np.float32)), zeros[2], 3, 252)
    op = Mul("m", 0, 2, 1, zeros[0], zeros[1], how)
    tensors = Tensor("a", (65536,)), Tensor("b", (65536,)), Tensor("y", (65536,))
    check(one_op(pool, op, *tensors), a, b)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 7), (3, 8, 8), (4, 33, 31), (2, 64, 64), (7, 5)])
@pytest.mark.parametrize("zeros", [(0, 0, 0), (128, 17, 99), (255, 255, 0)])
def test_gate(check: Check, shape: tuple[int, ...], zeros: tuple[int, int, int]) -> None:
    """One factor a channel; the last table on every second shape."""
    rng, pool = np.random.default_rng(len(shape)), Pool()
    table = pool.add(rng.permutation(256).astype(np.uint8)) if shape[0] % 2 else Const()
    how = Requantise(Const(), pool.add(np.array([0.00391], np.float32)), zeros[2], 0, 255, table)
    tensors = Tensor("a", shape), Tensor("b", (shape[0], 1, 1)), Tensor("y", shape)
    program = one_op(pool, Mul("m", 0, 2, 1, zeros[0], zeros[1], how), *tensors)
    check(program, codes(rng, 2, *shape), codes(rng, 2, shape[0], 1, 1))


@pytest.mark.parametrize("n", SIZES)
def test_mul(check: Check, n: int) -> None:
    rng, pool = np.random.default_rng(n), Pool()
    table = pool.add(rng.permutation(256).astype(np.uint8)) if n % 2 else Const()
    how = Requantise(Const(), pool.add(np.array([0.0123], np.float32)), 12, 0, 255, table)
    tensors = Tensor("a", (n,)), Tensor("b", (n,)), Tensor("y", (n,))
    check(one_op(pool, Mul("m", 0, 2, 1, 100, 90, how), *tensors), codes(rng, 2, n), codes(rng, 2, n))
