"""The score of the MicroNet challenge (NeurIPS 2019): storage and operations of a network, each by a reference's.

Rules: https://micronet-challenge.github.io/scoring_and_submission. A value of b bits is b / 32 parameters, the mask of
a sparse tensor one bit an element (a block); a multiplication or an addition is the width of its widest operand / 32
operations. Networks without any quantisation may pretend to 16 bits in storage and multiplications, never in additions.
The rule for weights of one bit (1/32 of an operation) and the accuracy that entries had to reach are not looked at.

A network as large as its task's reference scores 1 + 1 = 2, before the 16 bits for free.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shoestring.core.counts import Counts
from shoestring.core.errors import BadInput
from shoestring.core.measurement import Measurement

FULL, FREE = 32, 16


@dataclass(frozen=True)
class Reference:
    """What a score of 1 in each term is: `parameters` of 32 bits and 32-bit `operations` of a task's reference."""

    task: str
    parameters: float
    operations: float


# MobileNetV2-1.4 with the parameters that its paper prints; the network itself has 6.1 million.
IMAGENET = Reference("ImageNet", 6.9e6, 1170e6)
CIFAR100 = Reference("CIFAR-100", 36.5e6, 10.49e9)  # WRN-28-10
WIKITEXT103 = Reference("WikiText-103", 159e6, 318e6)  # an LSTM, by token


@dataclass(frozen=True)
class Bill:
    """`parameters` of 32 bits and 32-bit `operations` of one input. `free`: by the 16 bits for unquantised networks."""

    parameters: float
    operations: float
    free: bool = False

    def score(self, reference: Reference = IMAGENET) -> float:
        return self.parameters / reference.parameters + self.operations / reference.operations


def bill(counts: Mapping[str, Counts], free: bool = True) -> Bill:
    """What a network costs by the rules. `counts`: of all its layers, elementwise work included
    (`core.elementwise.whole`). `free`: take the 16 bits for free where the rules give them, to networks in which
    nothing is quantised (narrow activations beside float weights do not show in counts: say False for those)."""
    total = sum(counts.values(), Counts())
    free = free and not any(map(_quantised, counts.values()))
    width = FREE if free else FULL
    return Bill(
        parameters=(total.bits * width / FULL + total.mask_bits) / 32,
        operations=_weighted(total.multiplies, width) + _weighted(total.adds, FULL),
        free=free,
    )


def micronet(counts: Mapping[str, Counts], reference: Reference = IMAGENET) -> Measurement:
    """The score against `reference` (for tasks that were not in the challenge ImageNet's, which the result says); no
    unit, lower is better, exact. `counts`: as of `bill`. Raises BadInput when there are none."""
    if not counts:
        raise BadInput("micronet: there is no layer to count; give the counts of every layer of the network")
    billed = bill(counts)
    score = billed.score(reference)
    how = (
        f"{billed.parameters / 1e6:.4g}M of {reference.parameters / 1e6:.4g}M parameters and "
        f"{billed.operations / 1e6:.4g}M of {reference.operations / 1e6:.4g}M operations ({reference.task}'s reference)"
    )
    return Measurement(score, "", 1, score, score, how + (", 16 bits for free" if billed.free else ""), "paper")


def _weighted(operations: Mapping[int, int], width: int) -> float:
    """In 32-bit operations, full ones counted as of `width` bits."""
    return sum(number * (width if bits >= FULL else bits) / FULL for bits, number in operations.items())


def _quantised(counts: Counts) -> bool:
    """Whether anything is narrower than float32: an operand, a sum, or a stored weight."""
    return counts.bits < FULL * counts.nonzeros or min([*counts.multiplies, *counts.adds], default=FULL) < FULL
