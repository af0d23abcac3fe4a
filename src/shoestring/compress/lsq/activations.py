"""Activations on a learned grid: a module on an edge of the graph."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shoestring.compress.lsq.initialise import Start
from shoestring.compress.lsq.quantise import positive, quantise

_CONTAINER = 255  # the highest code of the file's 8 bits


class ByteGrid(NamedTuple):
    """A grid in the file's terms: code = clip(round(x / scale) + zero_point, low, high), all within a byte."""

    scale: float
    zero_point: int
    low: int
    high: int


class ActivationQuantiser(nn.Module):
    """A tensor [B, ...] on 2^bits levels, same shape. Until `start` it lets values through and keeps a sample of them.

    Codes start at 0 or, `signed`, at -2^(bits-1). `learns_offset` (LSQ+): values are step * code + offset. `fix` ends
    that: zero becomes an exact code, as the file needs it, the offset a whole number of steps, and only the step goes
    on learning. Without an offset it is so from the start."""

    low: Tensor  # the lowest code
    first: Tensor  # the same once zero is a code
    started: Tensor
    fixed: Tensor
    features: Tensor  # in one input: the gradients of step and offset are scaled by it

    def __init__(self, bits: int):
        super().__init__()
        self.bits = bits
        self.step = nn.Parameter(torch.ones(1))
        self.offset = nn.Parameter(torch.zeros(1))
        self.register_buffer("low", torch.tensor(0))
        self.register_buffer("first", torch.tensor(0))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("fixed", torch.tensor(False))
        self.register_buffer("features", torch.tensor(1))
        self.sample: list[Tensor] = []

    def start(self, at: Start, signed: bool, learns_offset: bool) -> None:
        """Sets the grid and begins to quantise; the sample is dropped."""
        self.low.fill_(-(2 ** (self.bits - 1)) if signed else 0)
        self.step.data.fill_(at.step)
        self.offset.data.fill_(at.offset)
        self.offset.requires_grad_(learns_offset)
        self.started.fill_(True)
        self.sample.clear()
        if not learns_offset:
            self.fix()

    @torch.no_grad()
    def fix(self) -> None:
        """Makes the offset a whole number of steps, such that the codes and that of zero fit a byte. Where the grid is
        too far from zero for that, the step grows."""
        if not self.fixed:
            span = 2**self.bits - 1
            lowest = self.offset + self.low * self.positive_step()
            farthest = torch.maximum(-lowest, lowest + span * self.positive_step())
            self.step.copy_(torch.maximum(self.positive_step(), farthest / _CONTAINER))
            first = int(torch.round(lowest / self.positive_step()))
            self.first.fill_(min(max(first, -_CONTAINER), _CONTAINER - span))
            self.fixed.fill_(True)
            self.offset.requires_grad_(False)

    def positive_step(self) -> Tensor:
        return positive(self.step)

    def byte_grid(self) -> ByteGrid:
        """What is exported, once fixed. Codes that are all positive are shifted up, so that zero keeps its own."""
        first = int(self.first)
        zero_point = max(-first, 0)
        low = first + zero_point
        return ByteGrid(self.positive_step().item(), zero_point, low, low + 2**self.bits - 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.started:
            self.features.fill_(x[0].numel())
            self.sample.append(_thinned(x))
            return x
        low, span = int(self.low), 2**self.bits - 1
        scale = 1 / math.sqrt(int(self.features) * (low + span))
        if self.fixed:
            first = int(self.first)
            return quantise(x, self.positive_step(), None, first, first + span, scale)
        return quantise(x, self.positive_step(), self.offset, low, low + span, scale)

    def observe(self) -> Tensor:
        """The values seen before `start`, flat."""
        return torch.cat(self.sample)


def _thinned(x: Tensor, most: int = 2**16) -> Tensor:
    """At most `most` of the values of `x`, evenly spaced, flat and detached."""
    flat = x.detach().flatten()
    every = -(-len(flat) // most) | 1  # odd, so that maps with even sides are not seen in a few columns only
    return flat[::every].clone()
