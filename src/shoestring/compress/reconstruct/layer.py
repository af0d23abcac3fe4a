"""One layer, fitted: which weights stay, what they become, the codes they are stored as, the bias with them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.compress.reconstruct import rounding
from shoestring.compress.reconstruct.bounds import Bounds, aimed, clipped_errors
from shoestring.compress.reconstruct.moments import Batches, Moments
from shoestring.compress.reconstruct.pruning import ways
from shoestring.compress.reconstruct.quadratic import Quadratic, refit
from shoestring.core.pattern import Pattern

# Of the mean variance of what a layer reads, at so many inputs; with fewer there is less to go by.
DAMPING, INPUTS = 0.1, 250
_ROUNDS = 3  # of codes, then steps
_AIMS = 3  # of least squares behind which values are clipped,
_PER_WEIGHT, _PART = 200, 8  # by at least so many positions for each weight of a row, and at least this part of all


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
class Given:
    """What a layer was and what it has. `original`: its weight before anything was done to it, [g, o, d]; `raw`,
    `steps`, `bias`: the codes and, [g, o], steps and bias that it has so far; `keep`: where it was not pruned; `taps`:
    of its kernel. `bounds`: its outputs are clipped to these, None where they are not. `free`: it may have a bias."""

    original: Tensor
    raw: Tensor
    steps: Tensor
    bias: Tensor
    keep: Tensor
    taps: int
    bounds: Bounds | None = None
    free: bool = True


@dataclass(frozen=True)
class Fitted:
    """`codes`: [g, o, d]; `steps`, `bias`: [g, o]; `before`, `after`: the mean squared error of the layer's outputs
    (once clipped, where that was looked at) on the inputs that it was fitted to, as given and as fitted."""

    codes: Tensor
    steps: Tensor
    bias: Tensor
    before: float
    after: float


def fit(seen: Callable[[], Batches], given: Given, asked: Asked) -> Fitted:
    """`seen`: what the layer reads and what it should write, as often as it is called. A row for which nothing better
    is found keeps what it has, or that with the best bias; so does a layer whose zeros were chosen anew."""
    partners = rounding.pairs(given.original.shape[2] // given.taps, given.taps) if asked.pairs else None
    codes = rounding.Codes(asked.bits, partners)
    moments = Moments.of(seen())
    plain = quadratic = Quadratic.of(moments, given.free)
    hessian, target = quadratic.damped(given.original, asked.damping)
    keep = given.keep
    if asked.pattern is not None:
        keep = ways(hessian, target, given.taps, asked.pattern).keep(int((~keep).sum()))
    weight = refit(hessian, target, keep)
    # Where little is wrong, there is nothing to gain by it.
    bounds = given.bounds if asked.bits < 8 or not keep.all() else None
    for _ in range(_AIMS):
        if bounds is None:
            break
        positions = max(_PER_WEIGHT * weight.shape[2], moments.count // _PART)
        batches = aimed(seen(), positions, weight, quadratic.bias(weight), bounds)
        quadratic = Quadratic.of(moments.moved(batches), given.free)
        hessian, target = quadratic.damped(given.original, asked.damping)
        weight = refit(hessian, target, keep)
    found, own = coded(hessian, target, weight, keep, codes)
    had = given.raw * given.steps[:, :, None]
    fitted = found * own[:, :, None]
    tried = [(had, given.bias), (had, plain.bias(had)), (fitted, quadratic.bias(fitted))]
    errors = torch.stack(clipped_errors(seen(), tried, bounds) if bounds else [plain.errors(*one) for one in tried])
    # Rows that share a number of zeros stand or fall together.
    judged = errors if asked.pattern is None else errors.sum((1, 2), keepdim=True).expand_as(errors)
    best = judged.argmin(0)
    bias = torch.stack([bias for _, bias in tried]).gather(0, best[None])[0]
    after = errors.gather(0, best[None])[0]
    ours = best == 2
    found, steps = torch.where(ours[:, :, None], found, given.raw), torch.where(ours, own, given.steps)
    return Fitted(found, steps, bias, float(errors[0].mean()), float(after.mean()))


def coded(
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
