"""MaxPool and AveragePool: every instruction set against the reference, bit for bit."""

from collections.abc import Callable

import numpy as np
import pytest

from shoestring.engine import native
from shoestring.engine.program import AveragePool, Const, MaxPool, Pool, Program, Requantise, Tensor

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

Check = Callable[..., list[np.ndarray]]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def out_shape(shape: tuple[int, int, int], kernel: Pair, stride: Pair, dilation: Pair, pads: Pads) -> tuple[int, ...]:
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return shape[0], *((shape[i + 1] + pads[i] + pads[i + 2] - reach[i]) // stride[i] + 1 for i in range(2))


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "dilation", "pads"),
    [
        ((3, 112, 112), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
        ((2, 56, 56), (3, 3), (2, 2), (1, 1), (0, 0, 1, 1)),
        ((3, 7, 9), (2, 2), (2, 2), (1, 1), (0, 0, 0, 0)),
        ((3, 20, 20), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
        ((2, 13, 70), (3, 2), (3, 5), (1, 1), (1, 0, 2, 1)),
        ((2, 17, 33), (3, 3), (1, 2), (2, 3), (2, 3, 1, 4)),
        ((1, 6, 6), (6, 6), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((4, 1, 1), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((2, 4, 40), (1, 1), (2, 4), (1, 1), (0, 0, 0, 0)),
        ((2, 5, 10), (1, 3), (2, 2), (1, 1), (0, 2, 0, 0)),
    ],
)
def test_max_pool(
    check: Check, shape: tuple[int, int, int], kernel: Pair, stride: Pair, dilation: Pair, pads: Pads
) -> None:
    rng = np.random.default_rng(0)
    tensors = Tensor("x", shape), Tensor("y", out_shape(shape, kernel, stride, dilation, pads))
    program = Program(tensors, (MaxPool("m", 0, 1, kernel, stride, dilation, pads),), (0,), (1,), b"")
    for most in (256, 4):  # few codes: padding would win if it were anything but the least
        check(program, rng.integers(0, most, (2, *shape), dtype=np.uint8))


@pytest.mark.parametrize("count_padding", [0, 1])
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "pads"),
    [
        ((5, 7, 7), (7, 7), (1, 1), (0, 0, 0, 0)),
        ((130, 1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((3, 112, 112), (112, 112), (1, 1), (0, 0, 0, 0)),
        ((2, 5, 13), (5, 13), (1, 1), (0, 0, 0, 0)),
        ((3, 14, 15), (3, 3), (1, 1), (1, 1, 1, 1)),
        ((2, 15, 40), (3, 3), (2, 2), (1, 0, 1, 2)),
        ((2, 8, 8), (2, 2), (2, 2), (0, 0, 0, 0)),
        ((2, 3, 5), (3, 5), (1, 1), (2, 4, 2, 4)),
        ((1, 9, 50), (4, 1), (3, 2), (3, 0, 0, 0)),
    ],
)
def test_average_pool(
    check: Check, shape: tuple[int, int, int], kernel: Pair, stride: Pair, pads: Pads, count_padding: int
) -> None:
    rng, pool = np.random.default_rng(1), Pool()
    counts = np.arange(1, kernel[0] * kernel[1] + 1, dtype=np.float32)
    table = pool.add(rng.permutation(256).astype(np.uint8)) if shape[0] == 2 else Const()
    how = Requantise(Const(), pool.add(np.float32(0.83) / counts), 31, 0, 250, table)
    op = AveragePool("a", 0, 1, 77, count_padding, kernel, stride, pads, how)
    tensors = Tensor("x", shape), Tensor("y", out_shape(shape, kernel, stride, (1, 1), pads))
    program = Program(tensors, (op,), (0,), (1,), pool.bytes())
    check(program, rng.integers(0, 256, (2, *shape), dtype=np.uint8))
    check(program, np.full((1, *shape), 255, np.uint8))
