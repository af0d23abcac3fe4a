"""Counts: what a layer costs on paper. Size, MACs and scores are all derived from here, so they cannot disagree."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shoestring.core.layer import Layer


@dataclass(frozen=True)
class Counts:
    """`bits`: storage of weights, biases and scales. `nonzeros`: weights kept. `mask_bits`: storage of the positions.
    `multiplies`, `adds`: operations of one input, by the width in bits of their widest operand."""

    bits: int = 0
    nonzeros: int = 0
    mask_bits: int = 0
    multiplies: Mapping[int, int] = field(default_factory=dict)
    adds: Mapping[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> float:
        return (self.bits + self.mask_bits) / 8

    @property
    def macs(self) -> int:
        return sum(self.multiplies.values())

    def computed(self) -> "Counts":
        """The operations alone: of weights that another layer stores."""
        return replace(self, bits=0, nonzeros=0, mask_bits=0)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.bits + other.bits,
            self.nonzeros + other.nonzeros,
            self.mask_bits + other.mask_bits,
            Counter(self.multiplies) + Counter(other.multiplies),
            Counter(self.adds) + Counter(other.adds),
        )


def dense(layer: Layer, weight_bits: int = 32, activation_bits: int = 32, accumulator_bits: int = 32) -> Counts:
    """The counts of a dense layer: each output is a dot product, of length n n multiplications and n - 1 additions; a
    bias is one addition more. Biases and the scales of quantised weights are stored in 32 bits, one an output channel.
    What is done to each output afterwards is counted by `core.elementwise`.
    """
    return sparse(layer, layer.weights, 0, weight_bits, activation_bits, accumulator_bits)


def sparse(
    layer: Layer,
    kept: int,
    mask_bits: int,
    weight_bits: int = 32,
    activation_bits: int = 32,
    accumulator_bits: int = 32,
) -> Counts:
    """The counts of a layer of which `kept` weights are not zero: only those are stored and multiplied. `mask_bits`:
    storage of their positions, one bit a weight (with blocks, one a block). `accumulator_bits`: width of the sums. A
    dot product without any weight left still saves one addition; the organisers of MicroNet count like that, too."""
    channels = layer.weight[0] if layer.weight else 0
    bias = channels if layer.bias else 0
    scales = channels if weight_bits < 32 else 0
    # Every weight is used equally often; products of two activations have no weights, and all of them are made.
    products = layer.macs * kept // layer.weights if layer.weights else layer.macs
    sums = max(0, products - (0 if bias else math.prod(layer.output)))
    return Counts(
        bits=kept * weight_bits + 32 * (bias + scales),
        nonzeros=kept,
        mask_bits=mask_bits,
        multiplies={max(weight_bits, activation_bits): products} if layer.macs else {},
        adds={accumulator_bits: sums} if layer.macs else {},
    )
