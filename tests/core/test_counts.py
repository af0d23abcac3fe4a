"""Counts against dot products that are written out and counted by hand, one operation at a time."""

from dataclasses import dataclass

import pytest

from shoestring.core.counts import Counts, dense, sparse
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, OTHER, Layer


@dataclass
class Tally:
    multiplies: int = 0
    adds: int = 0

    def dot(self, length: int, bias: bool) -> None:
        """One output: the first product starts the sum, every other is added to it, then the bias."""
        for term in range(length):
            self.multiplies += 1
            if term > 0:
                self.adds += 1
        if bias:
            self.adds += 1


@dataclass(frozen=True)
class Geometry:
    """A padded convolution of a square: it keeps the size but for the stride."""

    inputs: int
    side: int
    outputs: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def tally(self, bias: bool) -> Tally:
        """Products with the padding are made, too."""
        tally = Tally()
        for _channel in range(self.outputs):
            for _row in range(0, self.side, self.stride):
                for _column in range(0, self.side, self.stride):
                    tally.dot(self.inputs // self.groups * self.kernel * self.kernel, bias)
        return tally


# kind and MACs by hand
CONVOLUTIONS = [
    (Geometry(3, 8, 4, 3), CONV, 8 * 8 * 4 * 27),
    (Geometry(3, 8, 4, 3, stride=2), CONV, 4 * 4 * 4 * 27),
    (Geometry(6, 5, 4, 1), CONV, 5 * 5 * 4 * 6),
    (Geometry(1, 4, 2, 1), CONV, 4 * 4 * 2),
    (Geometry(8, 4, 6, 3, groups=2), CONV, 4 * 4 * 6 * 36),
    (Geometry(6, 6, 6, 5, stride=2, groups=6), DEPTHWISE, 3 * 3 * 6 * 25),
    (Geometry(4, 4, 8, 3, groups=4), DEPTHWISE, 4 * 4 * 8 * 9),
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("geometry", "kind", "macs"), CONVOLUTIONS)
def test_convolutions(geometry: Geometry, kind: str, macs: int, bias: bool) -> None:
    side, outputs, stride = geometry.side, geometry.outputs, geometry.stride
    weight = (outputs, geometry.inputs // geometry.groups, geometry.kernel, geometry.kernel)
    shapes = (geometry.inputs, side, side), (outputs, -(-side // stride), -(-side // stride))
    counts = dense(Layer("c", kind, "Conv", *shapes, weight, (stride, stride), geometry.groups, bias, macs))
    tally = geometry.tally(bias)
    assert counts.multiplies == {32: tally.multiplies}
    assert counts.adds == {32: tally.adds}
    assert counts.macs == macs
    stored = weight[0] * weight[1] * weight[2] * weight[3]
    assert (counts.nonzeros, counts.mask_bits) == (stored, 0)
    assert counts.bits == 32 * (stored + bias * outputs)
    assert counts.bytes == 4 * (stored + bias * outputs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens", [(), (7,), (2, 3)])
def test_linear_layers(tokens: tuple[int, ...], bias: bool) -> None:
    rows = {(): 1, (7,): 7, (2, 3): 6}[tokens]
    tally = Tally()
    for _ in range(rows * 3):
        tally.dot(5, bias)
    layer = Layer("l", LINEAR, "Linear", (*tokens, 5), (*tokens, 3), (3, 5), bias=bias, macs=rows * 15)
    counts = dense(layer)
    assert counts.multiplies == {32: tally.multiplies}
    assert counts.adds == {32: tally.adds}
    assert counts.bits == 32 * (15 + 3 * bias)


def test_products_of_two_activations_have_no_weights() -> None:
    """Attention: 4 x 6 outputs, each a dot product of length 5."""
    tally = Tally()
    for _ in range(24):
        tally.dot(5, False)
    counts = dense(Layer("a", OTHER, "MatMul", (4, 5), (4, 6), macs=120))
    assert counts == Counts(multiplies={32: tally.multiplies}, adds={32: tally.adds})


def test_a_layer_that_multiplies_nothing_costs_nothing() -> None:
    assert dense(Layer("add", OTHER, "Add", (4, 8, 8), (4, 8, 8))) == Counts()


def test_weights_without_dot_products_are_stored() -> None:
    counts = dense(Layer("bn", OTHER, "BatchNorm", (4, 8, 8), (4, 8, 8), (4,), bias=True))
    assert counts == Counts(bits=32 * 8, nonzeros=4)


LAYER = Layer("l", LINEAR, "Linear", (5,), (3,), (3, 5), bias=True, macs=15)


@pytest.mark.parametrize(
    ("widths", "bits", "multiplies"),
    [
        ((32, 32), 32 * (15 + 3), 32),
        ((8, 8), 8 * 15 + 32 * 3 + 32 * 3, 8),  # weights, biases, a scale for each output
        ((4, 8), 4 * 15 + 32 * 3 + 32 * 3, 8),  # the widest operand decides
        ((8, 32), 8 * 15 + 32 * 3 + 32 * 3, 32),
        ((2, 2), 2 * 15 + 32 * 3 + 32 * 3, 2),
    ],
)
def test_narrow_operands(widths: tuple[int, int], bits: int, multiplies: int) -> None:
    counts = dense(LAYER, *widths, accumulator_bits=24)
    assert counts.bits == bits
    assert counts.multiplies == {multiplies: 15}
    assert counts.adds == {24: 15}


def test_counts_of_a_network_are_the_sum_by_width() -> None:
    first, second, third = dense(LAYER), dense(LAYER, 8, 8), dense(LAYER, 4, 8)
    whole = sum((first, second, third), Counts())
    assert whole.multiplies == {32: 15, 8: 30}
    assert whole.adds == {32: 45}
    assert whole.macs == 45
    assert whole.nonzeros == 45
    assert whole.bits == first.bits + second.bits + third.bits
    assert Counts(bits=3, mask_bits=5) + Counts(mask_bits=8) == Counts(bits=3, mask_bits=13)
    assert Counts(bits=3, mask_bits=13).bytes == 2
    assert first + Counts() == first


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("geometry", [Geometry(3, 8, 4, 3, stride=2), Geometry(6, 6, 6, 5, groups=6)])
def test_a_sparse_layer_makes_the_products_of_the_weights_it_keeps(geometry: Geometry, bias: bool) -> None:
    side, length = -(-geometry.side // geometry.stride), geometry.inputs // geometry.groups * geometry.kernel**2
    kept = [1 + channel % length for channel in range(geometry.outputs)]  # another number in each output channel
    tally = Tally()
    for left in kept:
        for _ in range(side * side):
            tally.dot(left, bias)
    weight = (geometry.outputs, geometry.inputs // geometry.groups, geometry.kernel, geometry.kernel)
    shapes, macs = ((geometry.inputs, side, side), (geometry.outputs, side, side)), side**2 * geometry.outputs * length
    layer = Layer("c", CONV, "Conv", *shapes, weight, groups=geometry.groups, bias=bias, macs=macs)
    counts = sparse(layer, sum(kept), layer.weights, 4, 8, 16)
    assert (counts.multiplies, counts.adds) == ({8: tally.multiplies}, {16: tally.adds})
    assert (counts.nonzeros, counts.mask_bits) == (sum(kept), layer.weights)
    assert counts.bits == 4 * sum(kept) + 32 * geometry.outputs * (1 + bias)  # weights, scales, biases


def test_a_layer_without_any_weight_left_is_not_negative() -> None:
    counts = sparse(Layer("l", LINEAR, "Linear", (5,), (3,), (3, 5), macs=15), 0, 15)
    assert counts == Counts(mask_bits=15, multiplies={32: 0}, adds={32: 0})
