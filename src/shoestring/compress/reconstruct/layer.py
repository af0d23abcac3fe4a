"""One layer, fitted: which weights stay, what they become, the codes they are stored as, the bias with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.compress.reconstruct import rounding
from shoestring.compress.reconstruct.pruning import ways
from shoestring.compress.reconstruct.quadratic import Quadratic, refit
from shoestring.core.pattern import BlockPattern, Pattern

# Of the mean variance of what a layer reads, at so many inputs; with fewer there is less to go by.
DAMPING, INPUTS = 0.1, 250
_ROUNDS = 3  # of codes, then steps


@dataclass(frozen=True)
class Asked:
    """What a layer is to become. `bits`: of its codes. `pairs`: whether codes of neighbouring inputs must add up to 128
    at most (`core.precision`, safe16). `pattern`: of its zeros, None to leave those as they are."""

    bits: int = 8
    pairs: bool = False
    pattern: Pattern | None = None
    damping: float = DAMPING
    """The share of the mean variance of what it reads that holds weights to what they were (`Quadratic.damped`)."""


def damping(inputs: int) -> float:
    """For so many calibration inputs."""
    return DAMPING * max(1.0, INPUTS / inputs)


@dataclass(frozen=True)
class Fitted:
    """`codes`: [g, o, d]; `steps`, `bias`: [g, o]; `before`, `after`: the mean squared error of the layer's outputs on
    the inputs that it was fitted to, as given (with the bias that it has) and as fitted."""

    codes: Tensor
    steps: Tensor
    bias: Tensor
    before: float
    after: float


def fit(  # noqa: PLR0913 - what a layer was, what it has, what it is to become
    quadratic: Quadratic, original: Tensor, raw: Tensor, steps: Tensor, keep: Tensor, taps: int, asked: Asked
) -> Fitted:
    """`original`: the weight before anything was done to it, [g, o, d]; `raw`, `steps`: the codes and steps [g, o] that
    the layer has so far; `keep`: where it was not pruned. Rows (and blocks of rows that share zeros) for which nothing
    better is found keep what they have, with the best bias."""
    inputs = original.shape[2] // taps
    partners = rounding.pairs(inputs, taps) if asked.pairs else None
    codes = rounding.Codes(asked.bits, partners)
    had = raw * steps[:, :, None]
    hessian, target = quadratic.damped(original, asked.damping)
    if asked.pattern is not None:
        keep = ways(hessian, target, taps, asked.pattern).keep(int((~keep).sum()))
    weight = target
    if not keep.all():
        weight = refit(hessian, target, keep)
    found, own = _coded(hessian, target, weight, keep, codes)
    tall = asked.pattern.outputs if isinstance(asked.pattern, BlockPattern) else 1
    before, after = quadratic.rows(had), quadratic.rows(found * own[:, :, None])
    better = _by_blocks(after, tall) <= _by_blocks(before, tall)
    better = better.repeat_interleave(tall, 1)[:, : raw.shape[1]]
    found, steps = torch.where(better[:, :, None], found, raw), torch.where(better, own, steps)
    weight = found * steps[:, :, None]
    return Fitted(found, steps, quadratic.bias(weight), float(before.mean()), float(quadratic.rows(weight).mean()))


def _coded(
    hessian: Tensor, target: Tensor, weight: Tensor, keep: Tensor, codes: rounding.Codes
) -> tuple[Tensor, Tensor]:
    """Codes and steps for the best real `weight`."""
    if codes.bits == 8:
        steps = rounding.widest(weight, codes)
        return rounding.found(hessian, target, steps, weight, keep, codes), steps
    steps = rounding.least_steps(hessian, target, weight, keep, codes)
    found = rounding.found(hessian, target, steps, weight, keep, codes)
    for _ in range(_ROUNDS):
        steps = rounding.fitted_steps(hessian, target, found, steps)
        found = rounding.descended(hessian, target, steps, found, keep, codes)
    return found, steps


def _by_blocks(rows: Tensor, tall: int) -> Tensor:
    """Sums [g, blocks] of numbers of rows [g, o]."""
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % tall)).reshape(len(rows), -1, tall).sum(2)
