"""Precision: at how many bits a layer is stored and computed. Methods decide it, the exporter realises it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """`weights` and `activations` in bits; 32 is float. Weights are signed and per output channel, activations
    unsigned and per tensor (the QDQ normal form). `safe16`: weights small enough that the products of two neighbours
    with u8 activations add up within 16 bits, for processors whose integer dot products saturate there."""

    weights: int = 32
    activations: int = 32
    safe16: bool = False

    @property
    def quantised(self) -> bool:
        return self.weights < 32


FLOAT = Precision()
INT8 = Precision(8, 8)
INT8_SAFE16 = Precision(8, 8, safe16=True)
