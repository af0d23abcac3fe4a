"""Layer: one entry of a network's inventory. Plain data, so that every room can speak of layers without torch."""

import math
from dataclasses import dataclass

CONV, DEPTHWISE, LINEAR, OTHER = "conv", "depthwise", "linear", "other"


@dataclass(frozen=True)
class Layer:
    """A layer as it runs on one input (batch 1).

    `name`: the module's path, which is also the node's name in the exported file. `op`: what it is in the graph's own
    words (`Conv`, `Linear`, `Add`). `input`, `output`: shapes without the batch axis. `weight`: OIHW (linear: out x
    in), empty when there is none. `macs`: multiplications of one input. `line`: where the model calls it, when known.
    `activation`: what is applied to each output right away, in lower case (`relu6`), empty when nothing is. `window`:
    of how many values one output of a pooling is made. `fixed`: its weight is a constant that no method may change (of
    sums).
    """

    name: str
    kind: str
    op: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    weight: tuple[int, ...] = ()
    stride: tuple[int, ...] = (1, 1)
    groups: int = 1
    bias: bool = False
    macs: int = 0
    line: str = ""
    activation: str = ""
    window: int = 1
    fixed: bool = False

    @property
    def weights(self) -> int:
        """Number of weights, the bias not counted."""
        return math.prod(self.weight) if self.weight else 0

    @property
    def bytes(self) -> int:
        """Bytes of weights and bias in fp32."""
        return 4 * (self.weights + (self.weight[0] if self.bias and self.weight else 0))


def conv_kind(weight: tuple[int, ...], groups: int) -> str:
    """Depthwise when each group has one input channel and there is more than one group."""
    return DEPTHWISE if groups > 1 and weight[1] == 1 else CONV
