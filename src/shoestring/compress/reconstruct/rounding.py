"""Codes of few bits for a weight, by the error of the layer's output instead of the weight's.

The problem is AdaRound's (Nagel et al., arXiv 2004.10568, equation 13: the quadratic of each row, its Hessian made of
the layer's inputs). It is descended coordinate by coordinate (QuantEase, Behdin et al., arXiv 2309.01885), which keeps
codes integer throughout, never increases the error, and ends with a smaller one than AdaRound's relaxation in a part of
the time. Steps are fitted in between, in closed form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 64  # columns between two products with the whole Hessian
_SWEEPS = 12
_TRIED = 40  # steps of a row that are tried


@dataclass(frozen=True)
class Codes:
    """What codes may be: `bits` of them, and `partners`: for each column those whose codes of the same sign add up with
    its own to `most` at most, or None."""

    bits: int
    partners: Tensor | None = None
    most: int = 128

    @property
    def low(self) -> int:
        return -(2 ** (self.bits - 1)) if self.bits < 8 else -127

    @property
    def high(self) -> int:
        return 2 ** (self.bits - 1) - 1


def nearest(weight: Tensor, steps: Tensor, codes: Codes) -> Tensor:
    """`weight` [g, o, d] on the grid of `steps` [g, o], as codes."""
    return (weight / steps[:, :, None]).round().clamp(codes.low, codes.high)


def descended(hessian: Tensor, target: Tensor, steps: Tensor, start: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Codes [g, o, d] with an error (W - T) H (W - T)' that no change of a single code makes smaller, found from
    `start`; never a larger one than that. Where `keep` is False a code stays 0. `hessian`: [g, d, d]; `target`:
    [g, o, d]; `steps`: [g, o]."""
    # Columns first: a column of all outputs lies together in memory.
    found, goal, free = (part.mT.contiguous() for part in (torch.where(keep, start, 0.0), target, keep))
    width, scale = hessian.shape[-1], steps[:, None]
    curve = hessian.diagonal(dim1=1, dim2=2)[:, :, None] * scale  # [g, d, o]
    for _ in range(_SWEEPS):
        changed = False
        for begin in range(0, width, _BLOCK):
            block = slice(begin, min(begin + _BLOCK, width))
            pull = hessian[:, block] @ (found * scale - goal)
            wanted = _inside(found[:, block] - pull / curve[:, block], codes)
            if not ((wanted != found[:, block]) & free[:, block]).any():
                continue
            for column in range(block.start, block.stop):
                away = pull[:, column - begin] / curve[:, column]
                # A tie would move for ever.
                moves = (away.abs() > 0.5 + 1e-9) & free[:, column]
                if moves.any():
                    new = _inside(found[:, column] - away, codes)
                    if codes.partners is not None and len(codes.partners[column]):
                        new = _beside(new, found[:, codes.partners[column]], codes)
                    move = torch.where(moves, new - found[:, column], 0.0)
                    changed = changed or bool(move.any())
                    found[:, column] += move
                    pull.baddbmm_(hessian[:, block, column, None], (move * steps)[:, None])
        if not changed:
            break
    return found.mT.contiguous()


def found(hessian: Tensor, target: Tensor, steps: Tensor, weight: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Codes [g, o, d] for the real `weight` [g, o, d]: of the descents from the nearest codes and from those of `fed`,
    for each row the better one."""
    scale, best, least = steps[:, :, None], torch.empty(0), torch.empty(0)
    for start in (nearest(weight, steps, codes), fed(hessian, target, steps, keep, codes)):
        ours = descended(hessian, target, steps, start, keep, codes)
        error = errors(hessian, target, ours * scale)
        if not len(best):
            best, least = ours, error
        best = torch.where((error < least)[:, :, None], ours, best)
    return best


def fed(hessian: Tensor, target: Tensor, steps: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Codes of one pass over the columns, those that weigh most first, in which those to come make up for each column
    that was rounded: GPTQ (Frantar et al., arXiv 2210.17323)."""
    order = hessian.diagonal(dim1=1, dim2=2).argsort(1, descending=True)  # [g, d]
    columns = order[:, None].expand(-1, target.shape[1], -1)
    sorted_ = hessian.gather(1, order[:, :, None].expand_as(hessian)).gather(2, order[:, None].expand_as(hessian))
    factor = torch.linalg.cholesky(torch.linalg.inv(sorted_), upper=True)
    left, kept = target.gather(2, columns), keep.gather(2, columns)
    chosen, groups = torch.zeros_like(target), torch.arange(len(order))
    for place in range(order.shape[1]):
        column = order[:, place]
        wanted = _inside(left[:, :, place] / steps, codes) * kept[:, :, place]
        if codes.partners is not None and codes.partners.shape[1]:
            others = codes.partners[column][:, None].expand(-1, target.shape[1], -1)
            wanted = _beside(wanted, chosen.gather(2, others).mT, codes)
        chosen[groups, :, column] = wanted
        wrong = (left[:, :, place] - wanted * steps) / factor[:, place, place, None]
        left[:, :, place:] -= wrong[:, :, None] * factor[:, place, None, place:]
    return chosen


def _inside(wanted: Tensor, codes: Codes) -> Tensor:
    """The nearest codes."""
    return wanted.round().clamp_(codes.low, codes.high)


def _beside(wanted: Tensor, others: Tensor, codes: Codes) -> Tensor:
    """The nearest codes to `wanted` [g, o] that go with those of their partners, `others` [g, partners, o]."""
    high, low = codes.most - others.amax(1).clamp_min(0), -codes.most - others.amin(1).clamp_max(0)
    return torch.maximum(torch.minimum(wanted, high), low)


def pairs(inputs: int, taps: int) -> Tensor:
    """For each column of a flat weight (inputs * taps) those that a processor may add to it before it has 32 bits: its
    neighbour at the same tap, or with an odd number of inputs any other. [columns, partners]."""
    columns = torch.arange(inputs * taps)
    if inputs % 2 == 0:
        even = (columns // taps) % 2 == 0
        return torch.where(even, columns + taps, columns - taps)[:, None]
    others = columns.expand(len(columns), -1)
    return others[others != columns[:, None]].reshape(len(columns), -1)


def fitted_steps(hessian: Tensor, target: Tensor, found: Tensor, steps: Tensor) -> Tensor:
    """The steps [g, o] with the least error for codes `found`, in closed form; the old ones where all codes are 0."""
    pulled = found @ hessian
    best = (pulled * target).sum(2) / (pulled * found).sum(2).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where((best > 0) & (found != 0).any(2), best, steps)


def errors(hessian: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """(W - T) H (W - T)' of each row: [g, o]."""
    wrong = weight - target
    return (wrong @ hessian * wrong).sum(2)


def widest(weight: Tensor, codes: Codes) -> Tensor:
    """The least steps [g, o] at which no code of `weight` is clipped, and partners stay within their limit though each
    be rounded up."""
    reach = weight.abs().amax(2) / codes.high
    if codes.partners is not None and codes.partners.shape[1]:
        for signed in (weight.clamp_min(0), (-weight).clamp_min(0)):
            both = (signed + signed[:, :, codes.partners].amax(3)).amax(2)
            reach = torch.maximum(reach, both / (codes.most - 1))
    return reach.clamp_min(torch.finfo(torch.float32).tiny)


def least_steps(hessian: Tensor, target: Tensor, weight: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Of several steps, the widest the largest, for each row [g, o] of `weight` the one whose nearest codes have the
    least error."""
    wide = widest(weight, codes)
    best, least = wide, torch.full_like(wide, torch.inf)
    for share in torch.linspace(0.35, 1.0, _TRIED).tolist():
        steps = wide * share
        tried = torch.where(keep, nearest(weight, steps, codes), 0.0) * steps[:, :, None]
        error = errors(hessian, target, tried)
        best, least = torch.where(error < least, steps, best), torch.minimum(error, least)
    return best
