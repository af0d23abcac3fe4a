"""Depthwise convolutions in native code against reference.py, bit for bit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from shoestring.engine import native
from shoestring.engine.program import F32, U8, Const, Conv, Pool, Program, Requantise, Sum, Tensor

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

Check = Callable[..., list[np.ndarray]]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layer:
    """A depthwise convolution to make up of x [C, H, W]. `codes`: what its weights are drawn from; with `add` (0, or 1:
    swapped) a second input is added to what it writes."""

    shape: tuple[int, int, int]
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pads: Pads = (1, 1, 1, 1)
    codes: Sequence[int] = range(-128, 128)
    x_zero: int = 131
    tables: bool = False
    add: int | None = None
    dtype: int = U8

    @property
    def out(self) -> tuple[int, ...]:
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        padded = [self.shape[i + 1] + self.pads[i] + self.pads[i + 2] for i in range(2)]
        return self.shape[0], *((padded[i] - reach[i]) // self.stride[i] + 1 for i in range(2))

    def program(self) -> Program:
        rng, channels, pool = np.random.default_rng(0), self.shape[0], Pool()
        codes = rng.choice(np.array(self.codes, np.int8), (channels, 1, *self.kernel))
        multiplier = rng.uniform(0.3, 1.4, channels) / np.abs(codes.astype(int)).sum((1, 2, 3)).clip(1)
        bias = pool.add(rng.integers(-5000, 5000, channels).astype(np.int32)) if not self.tables else Const()
        low, high = (10, 240) if self.tables else (0, 255)

        def table() -> Const:
            return pool.add(rng.permutation(256).astype(np.uint8)) if self.tables else Const()

        requantise = Requantise(bias, pool.add(multiplier.astype(np.float32)), 120, low, high, table())
        total = Sum()
        if self.add is not None:
            total = Sum(2, self.add, pool.add(np.array([0.6, 0.7, -33.25], np.float32)), 5, 250, table())
        geometry = channels, self.kernel, self.stride, self.dilation, self.pads
        conv = Conv("dw", 0, 1, pool.add(codes), self.x_zero, *geometry, requantise, total)
        tensors = Tensor("x", self.shape), Tensor("y", self.out, self.dtype), Tensor("b", self.out)
        inputs = (0,) if self.add is None else (0, 2)
        return Program(tensors[: 1 + len(inputs)], (conv,), inputs, (1,), pool.bytes())


def pictures(made: Program, images: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (images, *made.tensors[index].shape), dtype=np.uint8) for index in made.inputs]


@pytest.mark.parametrize("channels", [1, 5, 40])
@pytest.mark.parametrize("size", [7, 14, 28])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_shapes_of_real_networks(check: Check, channels: int, size: int, kernel: int, stride: int) -> None:
    half = kernel // 2
    made = Layer((channels, size, size), (kernel, kernel), (stride, stride), pads=(half,) * 4).program()
    check(made, *pictures(made))


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "dilation", "pads"),
    [
        ((3, 112, 112), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),  # in bands
        ((2, 113, 112), (3, 3), (2, 2), (1, 1), (0, 0, 1, 1)),
        ((2, 56, 200), (5, 5), (2, 2), (1, 1), (1, 1, 2, 2)),
        ((1, 9, 5000), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),  # a row is more than what stays hot
        ((3, 20, 33), (3, 3), (1, 1), (2, 3), (2, 3, 2, 3)),
        ((3, 20, 33), (3, 3), (2, 3), (3, 2), (2, 0, 1, 4)),
        ((3, 20, 64), (2, 4), (3, 4), (1, 1), (0, 1, 1, 2)),
        ((3, 20, 65), (4, 2), (1, 5), (1, 1), (0, 0, 0, 0)),
        ((3, 31, 1), (3, 1), (1, 1), (1, 1), (1, 0, 1, 0)),
        ((3, 1, 31), (1, 9), (1, 1), (1, 1), (0, 4, 0, 4)),
        ((3, 4, 4), (9, 11), (1, 1), (1, 1), (4, 5, 4, 5)),  # larger than the picture
        ((3, 1, 2), (3, 4), (1, 1), (2, 2), (4, 6, 4, 6)),  # outputs of padding alone
        ((3, 1, 1), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((2, 3, 40), (3, 3), (1, 1), (1, 70), (1, 70, 1, 70)),  # taps further apart than a vector
    ],
)
def test_geometry(
    check: Check, shape: tuple[int, int, int], kernel: Pair, stride: Pair, dilation: Pair, pads: Pads
) -> None:
    made = Layer(shape, kernel, stride, dilation, pads).program()
    check(made, *pictures(made))


def test_any_geometry(check: Check) -> None:
    rng = np.random.default_rng(7)

    def pair(most: int) -> Pair:
        return int(rng.integers(1, most)), int(rng.integers(1, most))

    for _ in range(40):
        shape = int(rng.integers(1, 20)), *pair(40)
        kernel, stride, dilation = pair(7), pair(5), pair(4)
        top, left, bottom, right = (int(rng.integers((kernel[i % 2] - 1) * dilation[i % 2] + 1)) for i in range(4))
        layer = Layer(shape, kernel, stride, dilation, (top, left, bottom, right))
        if min(layer.out) > 0:
            check(layer.program(), *pictures(layer.program(), 1))


@pytest.mark.parametrize("x_zero", [0, 255])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(
    "codes",
    [
        (-128,),
        (127,),
        (-128, 127),
        (-128, 0, 0, 127),  # steps that are left out
        (0,),
        (-64, 64),  # the largest whose products with bytes add in twos in 16 bits
        (-65, 65),
    ],
)
def test_nothing_saturates(check: Check, codes: tuple[int, ...], kernel: int, stride: int, x_zero: int) -> None:
    pads = (kernel // 2,) * 4
    made = Layer((9, 12, 21), (kernel, kernel), (stride, stride), pads=pads, codes=codes, x_zero=x_zero).program()
    for values in ((0,), (255,), (0, 255)):
        check(made, np.random.default_rng(0).choice(np.array(values, np.uint8), (1, 9, 12, 21)))


@pytest.mark.parametrize("add", [None, 0, 1])
@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("shape", [(19, 7, 7), (3, 90, 110)])
def test_tables_and_sums(check: Check, shape: tuple[int, int, int], tables: bool, add: int | None) -> None:
    made = Layer(shape, tables=tables, add=add).program()
    check(made, *pictures(made))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(19, 7, 7), (3, 90, 110)])
def test_floats(check: Check, shape: tuple[int, int, int], stride: int) -> None:
    made = Layer(shape, stride=(stride, stride), dtype=F32).program()
    check(made, *pictures(made))
