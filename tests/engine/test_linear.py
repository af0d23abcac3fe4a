"""Linear: every form of the weights and every instruction set against the reference, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest

from shoestring.engine import native
from shoestring.engine.program import F32, U8, Const, Linear, Pool, Program, Requantise, Sum, Tensor

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

Check = Callable[..., list[np.ndarray]]


def linear(
    weight: np.ndarray,
    rows: int,
    *,
    bits: int = 8,
    dtype: int = U8,
    x_zero: int = 119,
    more: bool = False,
) -> Program:
    """`weight` s8 [O, K]; a bias unless `x_zero` is 0. `more`: with limits, a table, and a sum with a second input."""
    rng, pool = np.random.default_rng(5), Pool()
    outputs, inputs = weight.shape
    spread = 0.02 / max(1.0, float(np.abs(weight.astype(np.int64)).sum(axis=1).mean()) ** 0.5)
    multiplier = (rng.random(outputs) * spread + spread / 9).astype(np.float32)
    offsets = pool.add(np.asarray(rng.integers(-30_000, 30_000, outputs), np.int32)) if x_zero else Const()
    tables = [pool.add(rng.permutation(256).astype(np.uint8)) if more else Const() for _ in range(2)]
    low, high = (9, 240) if more else (0, 255)
    how = Requantise(offsets, pool.add(multiplier), 101, low, high, tables[0])
    scales = np.array([0.61, 0.73, -20.3], np.float32)
    tensors = [Tensor("x", (rows, inputs)), Tensor("y", (rows, outputs), dtype)]
    total = Sum()
    if more:
        tensors.append(Tensor("z", (rows, outputs)))
        total = Sum(2, rows % 2, pool.add(scales), 1, 250, tables[1])
    op = Linear("l", 0, 1, pool.add(weight), x_zero, bits, how, total)
    return Program(tuple(tensors), (op,), (0, 2) if more else (0,), (1,), pool.bytes())


def run(check: Check, weight: np.ndarray, rows: int, **settings: object) -> None:
    program = linear(weight, rows, **settings)  # type: ignore[arg-type]
    rng = np.random.default_rng(6)
    outputs, inputs = weight.shape
    for images in (1, 2):
        x = rng.integers(0, 256, (images, rows, inputs), dtype=np.uint8)
        others = [rng.integers(0, 256, (images, rows, outputs), dtype=np.uint8)] if len(program.inputs) == 2 else []
        check(program, x, *others)


def weights(seed: int, outputs: int, inputs: int, bits: int = 8) -> np.ndarray:
    half = 1 << (bits - 1)
    return np.random.default_rng(seed).integers(-half, half, (outputs, inputs)).astype(np.int8)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("rows", [1, 3, 8, 21, 100])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (10, 13), (33, 64), (64, 17), (100, 96), (7, 130)])
def test_linear(check: Check, outputs: int, inputs: int, rows: int, bits: int) -> None:
    run(check, weights(outputs, outputs, inputs, bits), rows, bits=bits)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_floats(check: Check, rows: int, bits: int) -> None:
    run(check, weights(1, 45, 50, bits), rows, bits=bits, dtype=F32)
    run(check, weights(1, 45, 50, bits), rows, bits=bits, dtype=F32, x_zero=0)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_table_and_sum(check: Check, rows: int) -> None:
    run(check, weights(2, 75, 40), rows, more=True)
    run(check, weights(2, 75, 40, 4), rows, more=True, bits=4)


@pytest.mark.parametrize("more", [False, True])
def test_many_rows(check: Check, more: bool) -> None:
    """Several tiles, whose last blocks overlap."""
    run(check, weights(3, 50, 200), 403, more=more)


@pytest.mark.parametrize("extreme", [-128, 127])
def test_codes_of_many_rows_that_leave_sixteen_bits(check: Check, extreme: int) -> None:
    weight = np.full((40, 100), extreme, np.int8)
    weight[::3, ::2] = 1
    for x_zero in (0, 255):
        check(linear(weight, 20, x_zero=x_zero), np.full((1, 20, 100), 255, np.uint8))


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("extreme", [-1, 1])
def test_sums_that_leave_sixteen_bits(check: Check, extreme: int, bits: int) -> None:
    """All weights the largest of one sign, all inputs 255, zero points at both ends."""
    weight = np.full((40, 100), -(1 << (bits - 1)) if extreme < 0 else (1 << (bits - 1)) - 1, np.int8)
    for x_zero in (0, 255):
        for rows in (1, 8):
            program = linear(weight, rows, bits=bits, dtype=F32, x_zero=x_zero)
            check(program, np.full((1, rows, 100), 255, np.uint8))


@pytest.mark.parametrize(
    "pair", [(127, 2), (127, 1), (64, 64), (65, 64), (-128, -1), (-128, 0), (-128, 127), (-64, -65)]
)
def test_pairs_of_weights(check: Check, pair: tuple[int, int]) -> None:
    """On both sides of what the products of two neighbours may reach."""
    weight = np.zeros((20, 24), np.int8)
    weight[3, 4:6] = pair
    weight[9, 10:12] = pair[::-1]
    weight[17, :] = np.tile(pair, 12)
    for rows in (1, 8):
        check(linear(weight, rows, dtype=F32), np.full((1, rows, 24), 255, np.uint8))


@pytest.mark.parametrize("zeros", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("block", [(1, 1), (4, 1), (4, 4), (16, 4)])
def test_zeros(check: Check, block: tuple[int, int], zeros: float) -> None:
    """Zero blocks of any shape, some of which are left out."""
    kept = np.random.default_rng(0).random((-(-70 // block[0]), -(-90 // block[1]))) >= zeros
    weight = weights(3, 70, 90) * kept.repeat(block[0], 0).repeat(block[1], 1)[:70, :90]
    for rows in (1, 13):
        run(check, weight.astype(np.int8), rows)


def test_classifier(check: Check) -> None:
    weight = (np.random.default_rng(0).standard_normal((1000, 1280)) * 35).clip(-127, 127).astype(np.int8)
    run(check, weight, 1, dtype=F32)


@pytest.mark.parametrize("rows", [64, 67, 130])
@pytest.mark.parametrize("more", [False, True])
def test_many_rows_with_zero_blocks(check: Check, rows: int, more: bool) -> None:
    """Which are executed as a sparse 1x1 convolution of the transposed rows."""
    kept = np.random.default_rng(rows).random((65, 141)) >= 0.85
    weight = weights(4, 258, 141) * kept.repeat(4, 0)[:258]
    run(check, weight, rows, more=more)
    run(check, weight, rows, dtype=F32)


@pytest.mark.parametrize(
    ("bits", "rows", "zeros", "label"),
    [(8, 1, 0, "linear"), (4, 1, 0, "linear 4-bit"), (2, 1, 0, "linear 2-bit"), (8, 1, 0.9, "linear blocks"),
     (8, 64, 0.9, "linear 4x1"), (8, 63, 0, "linear")],
)  # fmt: skip
def test_which_form_is_chosen(bits: int, rows: int, zeros: float, label: str) -> None:
    kept = np.random.default_rng(0).random((16, 64)) >= zeros
    weight = weights(0, 256, 256, bits) * kept.repeat(16, 0).repeat(4, 1)
    step = native.Network(linear(weight.astype(np.int8), rows, bits=bits)).steps[0]
    assert step.label == label
    # Weights that are split in two, and a list of the second halves.
    assert step.weight_bytes <= weight.size * (bits if zeros == 0 else 4) / 8 * 2.2
