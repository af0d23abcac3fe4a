"""Counts: what a layer costs on paper. Size, MACs and scores are all derived from here, so they cannot disagree."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """
    channels = layer.weight[0] if layer.weight else 0
    bias = channels if layer.bias else 0
    scales = channels if weight_bits < 32 else 0
    return Counts(
        bits=layer.weights * weight_bits + 32 * (bias + scales),
        nonzeros=layer.weights,
        multiplies={max(weight_bits, activation_bits): layer.macs} if layer.macs else {},
        adds={accumulator_bits: layer.macs - (0 if bias else math.prod(layer.output))} if layer.macs else {},
    )
