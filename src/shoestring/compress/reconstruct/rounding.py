"""Codes of few bits for a weight, by the error of the layer's output instead of the weight's.

The problem is AdaRound's (Nagel et al., arXiv 2004.10568, equation 13: the quadratic of each row, its Hessian made of
the layer's inputs). It is descended coordinate by coordinate (QuantEase, Behdin et al., arXiv 2309.01885), which keeps
codes integer throughout and never increases the error, from two starts: the nearest codes, and the codes that
AdaRound's relaxation learns. Steps are fitted in between, in closed form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 64  # columns between two products with the whole Hessian
_SWEEPS = 12
_TRIED = 40  # steps of a row that are tried
_RELAXED_STEPS, _RELAXED_RATE = 400, 1e-2
_STRETCH = (-0.1, 1.1)  # AdaRound's zeta and gamma


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
    found = torch.where(keep, start, 0.0)
    scale = steps[:, :, None]
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    width = hessian.shape[-1]
    for _ in range(_SWEEPS):
        changed = False
        for begin in range(0, width, _BLOCK):
            end = min(begin + _BLOCK, width)
            pull = (found * scale - target) @ hessian[:, :, begin:end]  # [g, o, block]
            for column in range(begin, end):
                place = column - begin
                away = pull[:, :, place] / (diagonal[:, column, None] * steps)
                # A tie would move for ever.
                moves = (away.abs() > 0.5 + 1e-9) & keep[:, :, column]
                if moves.any():
                    new = _allowed(found, found[:, :, column] - away, column, codes)
                    move = torch.where(moves, new - found[:, :, column], 0.0)
                    changed = changed or bool(move.any())
                    found[:, :, column] += move
                    pull += (move * steps)[:, :, None] * hessian[:, column, None, begin:end]
        if not changed:
            break
    return found


def found(hessian: Tensor, target: Tensor, steps: Tensor, weight: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Codes [g, o, d] for the real `weight` [g, o, d]: of the descents from the nearest codes and, below 8 bits, from
    those that the relaxation learns, for each row the better one."""
    ours = descended(hessian, target, steps, nearest(weight, steps, codes), keep, codes)
    if codes.bits == 8:
        return ours
    start = relaxed(hessian, target, steps, weight, keep, codes)
    other = descended(hessian, target, steps, start, keep, codes)
    scale = steps[:, :, None]
    better = errors(hessian, target, other * scale) < errors(hessian, target, ours * scale)
    return torch.where(better[:, :, None], other, ours)


def _allowed(found: Tensor, wanted: Tensor, column: int, codes: Codes) -> Tensor:
    """The permitted code nearest to what is `wanted` in one column."""
    low, high = torch.full_like(wanted, codes.low), torch.full_like(wanted, codes.high)
    if codes.partners is not None:
        others = found[:, :, codes.partners[column]]
        if others.shape[2]:
            high = torch.minimum(high, codes.most - others.amax(2).clamp_min(0))
            low = torch.maximum(low, -(codes.most + others.amin(2).clamp_max(0)))
    return torch.maximum(torch.minimum(wanted.round(), high), low)


def pairs(inputs: int, taps: int) -> Tensor:
    """For each column of a flat weight (inputs * taps) those that a processor may add to it before it has 32 bits: its
    neighbour at the same tap, or with an odd number of inputs any other. [columns, partners]."""
    columns = torch.arange(inputs * taps)
    if inputs % 2 == 0:
        even = (columns // taps) % 2 == 0
        return torch.where(even, columns + taps, columns - taps)[:, None]
    others = columns.expand(len(columns), -1)
    return others[others != columns[:, None]].reshape(len(columns), -1)


def relaxed(hessian: Tensor, target: Tensor, steps: Tensor, start: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Codes that AdaRound learns: each weight of `start` (real) goes up or down, decided by a stretched sigmoid of a
    learned number, which a growing penalty drives to 0 or 1 (equations 22 to 24)."""
    scale = steps[:, :, None].float()
    h = hessian.float()
    h = h / h.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)[:, None, None]
    floor = (start.float() / scale).floor()
    rest = (start.float() / scale - floor).clamp(0.01, 0.99)
    zeta, gamma = _STRETCH
    logit = (-torch.log((gamma - zeta) / (rest - zeta) - 1)).requires_grad_()
    optimiser = torch.optim.Adam([logit], lr=_RELAXED_RATE)
    goal = target.float() / scale
    for step in range(_RELAXED_STEPS):
        up = (torch.sigmoid(logit) * (gamma - zeta) + zeta).clamp(0, 1)
        wrong = torch.where(keep, (floor + up).clamp(codes.low, codes.high), 0.0) - goal
        loss = (wrong @ h * wrong).sum() / 2
        share = step / _RELAXED_STEPS
        if share > 0.2:
            beta = 2 + 18 * (1 + torch.cos(torch.tensor(torch.pi * (share - 0.2) / 0.8))) / 2
            loss = loss + 0.05 * (1 - (2 * up - 1).abs().pow(beta)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = floor + (torch.sigmoid(logit) >= 0.5)
    return torch.where(keep, found.clamp(codes.low, codes.high), 0.0).to(target.dtype)


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
