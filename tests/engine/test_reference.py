"""The reference against loops over single elements."""

from fractions import Fraction

import numpy as np
import pytest

from shoestring.engine.program import (
    F32,
    I32,
    NONE,
    Add,
    AveragePool,
    Const,
    Conv,
    Copy,
    Farthest,
    Highest,
    Linear,
    MaxPool,
    Mul,
    Nearest,
    Op,
    Pool,
    Program,
    Quantise,
    Relative,
    Requantise,
    Softmax,
    Sum,
    Take,
    Tensor,
)
from shoestring.engine.reference import fma, run

RNG = np.random.default_rng(0)
f32 = np.float32


def execute(op: Op, pool: Pool, x: list[np.ndarray], shape: tuple[int, ...], dtype: int = 0) -> np.ndarray:
    kinds = [F32 if each.dtype == np.float32 else 0 for each in x]
    tensors = [Tensor("", each.shape[1:], kind) for each, kind in zip(x, kinds, strict=True)]
    inputs = tuple(range(len(x)))
    program = Program((*tensors, Tensor("", shape, dtype)), (op,), inputs, (len(x),), pool.bytes())
    return run(program, *x)[0]


def rounded(value: float, low: int = 0, high: int = 255) -> int:
    """Half to even, in bounds."""
    return int(min(max(round(value), low), high))


def codes(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("with_table", [False, True])
def test_a_convolution(groups: int, with_table: bool) -> None:
    pool, x = Pool(), codes(2, 4, 5, 6)
    weight = RNG.integers(-128, 128, (4, 4 // groups, 2, 3)).astype(np.int8)
    bias, multiplier = RNG.integers(-999, 999, 4).astype(np.int32), RNG.uniform(0.001, 0.01, 4).astype(f32)
    table = codes(256)
    how = Requantise(pool.add(bias), pool.add(multiplier), 77, 20, 230, pool.add(table) if with_table else Const())
    op = Conv("", 0, 1, pool.add(weight), 9, groups, (2, 3), (2, 1), (1, 2), (1, 0, 2, 1), how)
    got = execute(op, pool, [x], (4, 4, 3))
    wide = np.pad(x.astype(int) - 9, ((0, 0), (0, 0), (1, 2), (0, 1)))
    for n, o, i, j in np.ndindex(2, 4, 4, 3):
        acc, first = int(bias[o]), o // (4 // groups) * (4 // groups)
        for c, ky, kx in np.ndindex(*weight.shape[1:]):
            acc += int(weight[o, c, ky, kx]) * int(wide[n, first + c, i * 2 + ky, j + kx * 2])
        code = rounded(float(f32(acc) * multiplier[o]) + 0, 20 - 77, 230 - 77) + 77
        assert got[n, o, i, j] == (table[code] if with_table else code)


def test_a_linear_layer_in_codes_and_floats() -> None:
    pool, x = Pool(), codes(2, 3, 5)
    weight, multiplier = RNG.integers(-128, 128, (4, 5)).astype(np.int8), RNG.uniform(0.001, 0.01, 4).astype(f32)
    how = Requantise(Const(), pool.add(multiplier), 100)
    op = Linear("", 0, 1, pool.add(weight), 30, 8, how)
    as_codes, as_floats = execute(op, pool, [x], (3, 4)), execute(op, pool, [x], (3, 4), F32)
    for n, row, o in np.ndindex(2, 3, 4):
        acc = sum(int(weight[o, k]) * (int(x[n, row, k]) - 30) for k in range(5))
        assert as_floats[n, row, o] == f32(acc) * multiplier[o]
        assert as_codes[n, row, o] == rounded(float(f32(acc) * multiplier[o]), -100, 155) + 100


def exact_fma(a: float, b: float, c: float) -> np.float32:
    """By fractions: the nearest float32, ties to the even one."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = f32(float(exact))
    around = [near, np.nextafter(near, f32(-np.inf)), np.nextafter(near, f32(np.inf))]
    return min(around, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1))


def test_fma_is_rounded_once() -> None:
    a = codes(500).astype(f32)
    c = (RNG.standard_normal(500) * 10.0 ** RNG.integers(-9, 5, 500)).astype(f32)
    b = f32(0.12345679)
    got = fma(a, b, c)
    assert all(got[i] == exact_fma(a[i], b, c[i]) for i in range(len(a)))
    twice = (a * b + c).astype(f32)
    assert (got != twice).any()


def test_fma_where_two_roundings_would_fall_on_a_tie() -> None:
    """3 * 2^-24 is half a step beyond 1; a little less in the addend, far below what float64 holds, breaks the tie."""
    c = np.array([2.0**-70, -(2.0**-70), 0], f32)
    one = fma(np.array([1, 1, 1], f32), f32(1), np.array([2.0**-24] * 3, f32))
    np.testing.assert_array_equal(one, np.ones(3, f32))  # ties to even
    got = fma(np.array([2.0**24 + 2] * 3, f32) * f32(0.5), f32(1 + 2.0**-23), c)
    assert [float(v) for v in got] == [float(exact_fma(float(2.0**23 + 1), 1 + 2.0**-23, float(v))) for v in c]


@pytest.mark.parametrize("swapped", [0, 1])
def test_a_sum(swapped: int) -> None:
    pool, a, b = Pool(), codes(2, 3, 8), codes(2, 3, 8)
    scales = np.array([0.71, 0.53, -33.3], f32)
    got = execute(Add("", 0, 2, Sum(1, swapped, pool.add(scales), 10, 200)), pool, [a, b], (3, 8))
    for at in np.ndindex(2, 3, 8):
        first, second = (b[at], a[at]) if swapped else (a[at], b[at])
        inner = exact_fma(float(second), float(scales[1]), float(scales[2]))
        assert got[at] == rounded(float(exact_fma(float(first), float(scales[0]), float(inner))), 10, 200)


def test_a_product_and_a_gate() -> None:
    pool, a = Pool(), codes(2, 3, 4, 5)
    how = Requantise(Const(), pool.add(np.array([0.013], f32)), 60)
    for b in (codes(2, 3, 4, 5), codes(2, 3, 1, 1)):
        got = execute(Mul("", 0, 2, 1, 20, 30, how), pool, [a, b], (3, 4, 5))
        whole = np.broadcast_to(b, a.shape)
        for at in np.ndindex(*a.shape):
            acc = (int(a[at]) - 20) * (int(whole[at]) - 30)
            assert got[at] == rounded(float(f32(acc) * f32(0.013)), -60, 195) + 60


@pytest.mark.parametrize("counted", [0, 1])
def test_pools(counted: int) -> None:
    pool, x = Pool(), codes(2, 2, 5, 4)
    multiplier = (f32(0.4) / np.arange(1, 7, dtype=f32)).astype(f32)
    how = Requantise(Const(), pool.add(multiplier), 50)
    mean = AveragePool("", 0, 1, 12, counted, (3, 2), (2, 1), (1, 1, 1, 0), how)
    means = execute(mean, pool, [x], (2, 3, 4))
    most = execute(MaxPool("", 0, 1, (3, 2), (2, 1), (1, 1), (1, 1, 1, 0)), pool, [x], (2, 3, 4))
    for n, c, i, j in np.ndindex(2, 2, 3, 4):
        seen = [
            int(x[n, c, y, z])
            for y in range(i * 2 - 1, i * 2 + 2)
            for z in range(j - 1, j + 1)
            if 0 <= y < 5 and 0 <= z < 4
        ]
        acc, count = sum(seen) - 12 * len(seen), 6 if counted else len(seen)
        assert most[n, c, i, j] == max(seen)
        assert means[n, c, i, j] == rounded(float(f32(acc) * multiplier[count - 1]), -50, 205) + 50


def test_a_copy() -> None:
    pool, x, table = Pool(), codes(2, 30), codes(256)
    op = Copy("", 0, 1, 3, 0, (2, 3, 2, 1, 1, 1), (1, 4, 9, 0, 0, 0), (1, 2, 6, 0, 0, 0), pool.add(table))
    got = execute(op, pool, [x], (12,))
    for n, i, j, k in np.ndindex(2, 2, 3, 2):
        assert got[n, i + 2 * j + 6 * k] == table[x[n, 3 + i + 4 * j + 9 * k]]


def test_floats() -> None:
    pool, x = Pool(), RNG.uniform(-40, 40, (2, 3, 4)).astype(f32)
    got = execute(Quantise("", 0, 1, pool.add(np.array([0.1], f32)), 128), pool, [x], (3, 4))
    for at in np.ndindex(*x.shape):
        assert got[at] == rounded(float(x[at] / f32(0.1)), -128, 127) + 128
    soft = execute(Softmax("", 0, 1, 1, 3, 4), pool, [x], (3, 4), F32)
    np.testing.assert_allclose(soft, np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), rtol=1e-5)


def points(images: int, count: int) -> np.ndarray:
    """Some coincide."""
    return RNG.integers(0, 4, (images, count, 3)).astype(f32) / f32(3)


def squared(a: np.ndarray, b: np.ndarray) -> f32:
    x, y, z = ((p - q) * (p - q) for p, q in zip(a, b, strict=True))
    return f32(f32(x + y) + z)


def test_farthest_points() -> None:
    xyz = points(2, 30)
    got = execute(Farthest("", 0, 1), Pool(), [xyz], (12,), I32)
    for cloud, picked in zip(xyz, got, strict=True):
        kept = [0]
        while len(kept) < 12:
            near = [min(squared(point, cloud[other]) for other in kept) for point in cloud]
            kept.append(near.index(max(near)))
        assert picked.tolist() == kept


@pytest.mark.parametrize("radius", [None, 0.5])
def test_nearest_points(radius: float | None) -> None:
    pool, xyz, centres = Pool(), points(2, 30), points(2, 7)
    limit = Const() if radius is None else pool.add(np.array([radius], f32))
    got = execute(Nearest("", 0, 2, 1, limit), pool, [centres, xyz], (7, 9), I32)
    for image, m in np.ndindex(2, 7):
        far = [(squared(point, centres[image, m]), index) for index, point in enumerate(xyz[image])]
        nearest = sorted(far)[:9]
        expected = [index if radius is None or d <= f32(radius) ** 2 else nearest[0][1] for d, index in nearest]
        assert got[image, m].tolist() == expected


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_rows_of_neighbours(quantised: bool, centred: bool) -> None:
    pool, xyz, centres = Pool(), points(2, 30), points(2, 7)
    scale = pool.add(np.array([0.013], f32)) if quantised else Const()
    ops = (
        Nearest("", 1, 2, 0),
        Relative("", 0, 3, 2, 1 if centred else NONE, pool.add(np.array([1.7, -0.3], f32)), scale, 77),
        Take("", 0, 4, 2),
    )
    kinds = (("xyz", (30, 3), F32), ("centres", (7, 3), F32), ("index", (7, 5), I32))
    made = Tensor("relative", (35, 3), 0 if quantised else F32), Tensor("took", (35, 3), F32)
    program = Program((*(Tensor(*kind) for kind in kinds), *made), ops, (0, 1), (2, 3, 4), pool.bytes())
    index, relative, took = run(program, xyz, centres)
    for image, m, k, c in np.ndindex(2, 7, 5, 3):
        value = xyz[image, index[image, m, k], c]
        assert took[image, 5 * m + k, c] == value
        value = f32((value - centres[image, m, c]) if centred else value) * f32(1.7) * f32(-0.3)
        expected = rounded(float(np.rint(value / f32(0.013))) + 77) if quantised else value
        assert relative[image, 5 * m + k, c] == expected


def test_the_highest_of_rows() -> None:
    x = codes(2, 4 * 3, 5)
    got = execute(Highest("", 0, 1, 4, 3, 5), Pool(), [x], (4, 5))
    for image, row, c in np.ndindex(2, 4, 5):
        assert got[image, row, c] == max(x[image, 3 * row + k, c] for k in range(3))
