"""Blocks of weights in torch: what `core.pattern.BlockPattern` does in NumPy, with gradients."""

import torch
from torch import Tensor
from torch.nn import functional as F

from shoestring.core.pattern import BlockPattern


def sums(weight: Tensor, pattern: BlockPattern, groups: int = 1) -> Tensor:
    """The sum over every block of a weight [O, I, ...]: [groups, block rows, block columns, taps]."""
    outputs, inputs = weight.shape[:2]
    flat = weight.reshape(groups, outputs // groups, inputs, -1)
    flat = F.pad(flat, (0, 0, 0, -inputs % pattern.inputs, 0, -flat.shape[1] % pattern.outputs))
    blocks = flat.reshape(groups, -1, pattern.outputs, flat.shape[2] // pattern.inputs, pattern.inputs, flat.shape[3])
    return blocks.sum((2, 4))


def sizes(shape: tuple[int, ...], pattern: BlockPattern, groups: int = 1) -> Tensor:
    """How many weights each block really holds, float32 in the shape of `sums`; fewer at ragged edges."""
    return sums(torch.ones(shape), pattern, groups)


def spread(blocks: Tensor, pattern: BlockPattern, shape: tuple[int, ...]) -> Tensor:
    """A value for every block (the shape of `sums`) as one for every weight of `shape`."""
    per_group = shape[0] // blocks.shape[0]
    if pattern.outputs > 1:
        blocks = blocks.repeat_interleave(pattern.outputs, 1)
    if pattern.inputs > 1:
        blocks = blocks.repeat_interleave(pattern.inputs, 2)
    return blocks[:, :per_group, : shape[1]].reshape(shape)
