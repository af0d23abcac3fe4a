"""Where steps and offsets start: three rules for activations, two for weights. Each is a function of values alone."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_SWEEPS = 25
_SHARES = 201  # steps tried for each row of a weight
# Shares of the values left out on each side by the starting points of the search: it finds local optima.
_STARTS = (0.0, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1)


class Start(NamedTuple):
    """A grid: value = step * code + offset, code from low to high."""

    step: float
    offset: float


def min_max(x: Tensor, low: int, high: int, offset: bool = True) -> Start:
    """The grid over all values of `x` (LSQ+ section 3.2, the starting point of its search). Without `offset` zero is
    code 0, and the step is the least that reaches both ends."""
    least, most = float(x.min()), float(x.max())
    if offset:
        step = _positive((most - least) / (high - low), abs(most))
        return Start(step, least - low * step)
    return Start(_positive(max(most / high, least / low if low else 0.0)), 0.0)


def mean(x: Tensor, high: int) -> Start:
    """LSQ's rule: step = 2 mean|x| / sqrt(high) (arXiv 1902.08153, section 2.1)."""
    return Start(_positive(2 * float(x.abs().mean()) / math.sqrt(high)), 0.0)


def least_error(x: Tensor, low: int, high: int, offset: bool = True) -> Start:
    """The grid with the least squared error on `x` (LSQ+ equation 9). The paper descends by gradients; here codes are
    assigned and step and offset fitted to them by least squares, in turn, from several starting points: each half
    never increases the error."""
    values, weights = _histogram(x)
    starts = [_over_share(values, weights, share, low, high, offset) for share in _STARTS]
    found = [_descend(values, weights, start, low, high, offset) for start in starts]
    return min(found, key=lambda start: _error(values, weights, start, low, high))


def weight_min_max(weight: Tensor, bits: int) -> Tensor:
    """The least step with which the highest code reaches the largest |w| of each row of `weight` [n, ...]: [n]."""
    reach = weight.detach().flatten(1).abs().amax(1)
    return (reach / (2 ** (bits - 1) - 1)).clamp_min(torch.finfo(torch.float32).tiny)


def weight_three_sigma(weight: Tensor, bits: int) -> Tensor:
    """LSQ+ equation 10: max(|mean - 3 std|, |mean + 3 std|) / 2^(bits - 1), for each row of `weight` [n, ...]: [n].
    (Some public code divides by 2^bits - 1: at 8 bits that would clip at 1.5 standard deviations.)"""
    rows = weight.detach().flatten(1)
    centre, spread = rows.mean(1), rows.std(1, correction=0)
    reach = torch.maximum((centre - 3 * spread).abs(), (centre + 3 * spread).abs())
    return (reach / 2 ** (bits - 1)).clamp_min(torch.finfo(torch.float32).tiny)


def weight_mean(weight: Tensor, bits: int) -> Tensor:
    """LSQ's rule for each row of `weight` [n, ...]: 2 mean|w| / sqrt(2^(bits - 1) - 1): [n]."""
    rows = weight.detach().flatten(1)
    return (2 * rows.abs().mean(1) / math.sqrt(2 ** (bits - 1) - 1)).clamp_min(torch.finfo(torch.float32).tiny)


def weight_least_error(weight: Tensor, bits: int) -> Tensor:
    """The step with the least squared error for each row of `weight` [n, ...]: [n]. The best of a fine row of shares of
    the largest weight, and of what least squares makes of each one's codes."""
    rows = weight.detach().flatten(1).double()
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    best, least = largest / high, torch.full_like(largest, math.inf)
    for share in torch.linspace(0.1, 1.1, _SHARES):
        step = share * largest / high
        codes = (rows / step).round().clamp(low, high)
        fitted = (rows * codes).sum(1, keepdim=True) / codes.square().sum(1, keepdim=True).clamp_min(1)
        for tried in (step, torch.where(fitted > 0, fitted, step)):
            error = ((rows / tried).round().clamp(low, high) * tried - rows).square().sum(1, keepdim=True)
            best, least = torch.where(error < least, tried, best), torch.minimum(error, least)
    return best.squeeze(1).float()


def _positive(step: float, value: float = 0.0) -> float:
    """A tensor of one `value` alone has no step of its own: one step is the value itself, and for 0 any."""
    return step if step > 0 else value or 1.0


def _histogram(x: Tensor, bins: int = 8192) -> tuple[Tensor, Tensor]:
    """Float64 centres of equal bins over `x`, and how many values lie in each; the empty ones left out."""
    x = x.detach().flatten().double()
    least, most = float(x.min()), float(x.max())
    if most <= least:
        return torch.tensor([least], dtype=torch.float64), torch.tensor([float(x.numel())], dtype=torch.float64)
    counts = torch.histc(x, bins, least, most)
    centres = least + (most - least) / bins * (torch.arange(bins, dtype=torch.float64) + 0.5)
    return centres[counts > 0], counts[counts > 0]


def _over_share(values: Tensor, weights: Tensor, share: float, low: int, high: int, offset: bool) -> Start:
    """The min-max grid of the values without the outermost `share` of either side."""
    below = weights.cumsum(0) / weights.sum()
    kept = values[(below >= share) & (below - weights / weights.sum() <= 1 - share)]
    return min_max(kept if len(kept) else values, low, high, offset)


def _codes(values: Tensor, start: Start, low: int, high: int) -> Tensor:
    return ((values - start.offset) / start.step).round().clamp(low, high)


def _error(values: Tensor, weights: Tensor, start: Start, low: int, high: int) -> float:
    error = _codes(values, start, low, high) * start.step + start.offset - values
    return float((weights * error.square()).sum())


def _descend(values: Tensor, weights: Tensor, start: Start, low: int, high: int, offset: bool) -> Start:
    """Codes, then least squares: step = cov(x, q) / var(q), offset = mean(x) - step mean(q); without an offset
    step = sum(x q) / sum(q q)."""
    share = weights / weights.sum()
    for _ in range(_SWEEPS):
        codes = _codes(values, start, low, high)
        middle_x, middle_q = ((share * values).sum(), (share * codes).sum()) if offset else (0.0, 0.0)
        spread = float((share * (codes - middle_q).square()).sum())
        step = float((share * (values - middle_x) * (codes - middle_q)).sum()) / spread if spread > 0 else 0.0
        if step <= 0:
            return start
        found = Start(step, float(middle_x - step * middle_q))
        if found == start:
            return start
        start = found
    return start
