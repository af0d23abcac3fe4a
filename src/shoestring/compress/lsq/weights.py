"""Weights on a learned grid, as a parametrization: symmetric, signed, no offset."""

import math

import torch
from torch import Tensor, nn

from shoestring.compress.lsq.quantise import positive, quantise

# Two neighbouring products of u8 activations and s8 weights must fit 16 bits on processors that add them there:
# 255 * 128 < 2^15. One step is left for rounding.
_PAIR = 127


class WeightQuantiser(nn.Module):
    """Float weight [out, in, ...] to the same on `bits` (LSQ; weights of LSQ+ are LSQ's). Codes are -2^(bits-1) to
    2^(bits-1) - 1, at 8 bits from -127, so that both signs of a channel fit a byte. `steps`: the start, [1] for the
    whole tensor or [out]. `safe16`: no step is so small that two neighbouring inputs' weights add up to more than 128
    codes; of use at 8 bits only, and needed by dense layers on x86-64 processors without VNNI. Lets the weight through
    until `started`."""

    started: Tensor

    def __init__(self, weight: Tensor, bits: int, steps: Tensor, safe16: bool):
        super().__init__()
        self.register_buffer("started", torch.tensor(False))
        self.bits, self.safe16 = bits, safe16
        self.low, self.high = max(-(2 ** (bits - 1)), -127), 2 ** (bits - 1) - 1
        self.steps = nn.Parameter(positive(steps))  # a dead channel has none
        self.gradient_scale = 1 / math.sqrt(weight.numel() / steps.numel() * self.high)

    def positive_steps(self, weight: Tensor) -> Tensor:
        """The steps in use: positive, and at least what `safe16` asks for. [1] or [out]."""
        steps = positive(self.steps)
        if not self.safe16:
            return steps
        least = pair_bound(weight.detach()) / _PAIR
        return torch.maximum(steps, least if steps.numel() > 1 else least.max())

    def forward(self, weight: Tensor) -> Tensor:
        if not self.started:
            return weight
        return quantise(weight, self.positive_steps(weight), None, self.low, self.high, self.gradient_scale)

    @torch.no_grad()
    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """int8 codes of `weight` [out, in, ...] and the step of each output [out]: what `forward` computes with."""
        steps = self.positive_steps(weight)
        shape = (-1, *[1] * (weight.ndim - 1))
        codes = (weight / steps.reshape(shape)).clamp(self.low, self.high).round()
        return codes.to(torch.int8), steps.expand(len(weight)).clone()


def adds_pairs(layer: nn.Module, bits: int) -> bool:
    """Whether sums of two neighbouring products of `layer` can leave 16 bits: dense layers with weights of 8 bits.
    Depthwise layers are computed without pairs."""
    depthwise = isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups > 1 and layer.weight.shape[1] == 1
    return bits == 8 and not depthwise


def pair_bound(weight: Tensor) -> Tensor:
    """For each output of `weight` [out, in, ...], the largest sum of the same-signed weights of two neighbouring inputs
    (2i, 2i + 1): the pairs whose products are added in 16 bits. With an odd number of inputs the pairs depend on the
    runtime, so any two count. [out]."""
    rows = weight.flatten(2) if weight.ndim > 2 else weight[:, :, None]
    sums = []
    for signed in (rows.clamp_min(0), (-rows).clamp_min(0)):
        if rows.shape[1] % 2:
            flat = signed.flatten(1)
            sums.append(flat.topk(min(2, flat.shape[1]), dim=1).values.sum(1))
        else:
            sums.append((signed[:, 0::2] + signed[:, 1::2]).flatten(1).amax(1))
    return torch.maximum(*sums)
