"""Codes by the error of the outputs, against all codes there are."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shoestring.compress.reconstruct import rounding
from shoestring.compress.reconstruct.rounding import Codes
from shoestring.deploy.quantize import safe16_range

STEPS, STRETCH = 400, (-0.1, 1.1)  # AdaRound's zeta and gamma


def case(seed: int, outputs: int = 2, width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """A Hessian with strong correlations, a target, steps."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(1, width, width + 2))
    hessian = mixed @ mixed.swapaxes(1, 2) + 0.05 * np.eye(width)
    target = rng.normal(size=(1, outputs, width))
    return torch.from_numpy(hessian), torch.from_numpy(target), torch.from_numpy(rng.uniform(0.2, 0.5, (1, outputs)))


def everything(target: Tensor) -> Tensor:
    return torch.ones_like(target, dtype=torch.bool)


@settings(max_examples=40)
@given(st.integers(0, 9999))
def test_descent_never_makes_it_worse_and_stops_where_no_single_code_helps(seed: int) -> None:
    hessian, target, steps = case(seed)
    codes = Codes(3)
    start = rounding.nearest(target, steps, codes)
    found = rounding.descended(hessian, target, steps, start, everything(target), codes)
    before, after = (rounding.errors(hessian, target, c * steps[:, :, None]) for c in (start, found))
    assert (after <= before + 1e-9).all()
    assert found.min() >= codes.low
    assert found.max() <= codes.high
    for row, column in product(range(2), range(4)):
        for code in range(codes.low, codes.high + 1):
            other = found.clone()
            other[0, row, column] = code
            assert rounding.errors(hessian, target, other * steps[:, :, None])[0, row] >= after[0, row] - 1e-9


def test_close_to_the_best_of_all_codes() -> None:
    """Three bits, four weights: 4096 rows of codes are tried. Rounding to nearest is far behind."""
    codes, best, ours, nearest = Codes(3), 0.0, 0.0, 0.0
    every = torch.tensor(list(product(range(codes.low, codes.high + 1), repeat=4)), dtype=torch.float64)[None]
    for seed in range(60):
        hessian, target, _ = case(seed, outputs=1)
        steps = rounding.widest(target, codes)  # nothing is clipped, which no rounding could mend
        best += float(rounding.errors(hessian, target, every * steps[:, :, None]).min())
        start = rounding.nearest(target, steps, codes)
        found = rounding.found(hessian, target, steps, target, everything(target), codes)
        nearest += float(rounding.errors(hessian, target, start * steps[:, :, None]).sum())
        ours += float(rounding.errors(hessian, target, found * steps[:, :, None]).sum())
    assert best <= ours <= 1.06 * best < 0.75 * nearest


@settings(max_examples=20)
@given(st.integers(0, 9999), st.sampled_from([3, 4, 8]))
def test_what_was_pruned_stays_zero(seed: int, bits: int) -> None:
    hessian, target, steps = case(seed)
    keep = torch.from_numpy(np.random.default_rng(seed).random((1, 2, 4)) > 0.5)
    codes = Codes(bits)
    start = rounding.nearest(target, steps, codes)
    assert not rounding.descended(hessian, target, steps, start, keep, codes)[~keep].any()


@settings(max_examples=30)
@given(st.integers(0, 9999), st.sampled_from([(4, 1), (6, 2), (5, 1), (3, 2)]))
def test_pairs_add_up_to_128_at_most(seed: int, size: tuple[int, int]) -> None:
    """As `deploy.quantize.safe16_range` reads a weight: two codes of one sign that a processor may add in 16 bits."""
    inputs, taps = size
    rng = np.random.default_rng(seed)
    hessian, target, _ = case(seed, 3, inputs * taps)
    target = target + torch.from_numpy(rng.normal(scale=2, size=target.shape))
    codes = Codes(8, rounding.pairs(inputs, taps))
    steps = rounding.widest(target, codes)
    start = rounding.nearest(target, steps, codes)
    found = rounding.descended(hessian, target, steps, start, everything(target), codes)
    for tried in (start, found):
        as_stored = tried[0].reshape(3, inputs, taps, 1).numpy().astype(np.float32)
        assert safe16_range(as_stored).max() <= 128


def test_a_tie_does_not_move_for_ever() -> None:
    hessian, target = torch.eye(1, dtype=torch.float64)[None], torch.tensor([[[0.5]]], dtype=torch.float64)
    steps, codes = torch.ones(1, 1, dtype=torch.float64), Codes(4)
    start = torch.zeros(1, 1, 1, dtype=torch.float64)
    assert float(rounding.descended(hessian, target, steps, start, everything(target), codes)[0, 0, 0]) in (0.0, 1.0)


@pytest.mark.parametrize("width", [63, 64, 65, 130])
def test_blocks_of_columns_do_not_show(width: int) -> None:
    """Products with the Hessian are made 64 columns at a time: at no width does a single code help at the end."""
    hessian, target, steps = case(width, 1, width)
    codes = Codes(4)
    found = rounding.descended(
        hessian, target, steps, rounding.nearest(target, steps, codes), everything(target), codes
    )
    away = ((found * steps[:, :, None] - target) @ hessian) / (hessian[0].diagonal() * steps[:, :, None])
    wanted = (found - away).round().clamp(codes.low, codes.high)
    assert ((wanted == found) | (away.abs() <= 0.5 + 1e-6)).all()


@given(st.integers(0, 999))
def test_fitted_steps_are_the_best_for_their_codes(seed: int) -> None:
    hessian, target, steps = case(seed)
    found = rounding.nearest(target, steps, Codes(4))
    fitted = rounding.fitted_steps(hessian, target, found, steps)
    least = rounding.errors(hessian, target, found * fitted[:, :, None])
    for share in (0.9, 0.99, 1.01, 1.1):
        assert (rounding.errors(hessian, target, found * (fitted * share)[:, :, None]) >= least - 1e-9).all()
    nothing = torch.zeros_like(found)
    assert torch.equal(rounding.fitted_steps(hessian, target, nothing, steps), steps)


@settings(max_examples=10)
@given(st.integers(0, 999))
def test_least_steps_beat_the_widest(seed: int) -> None:
    hessian, target, _ = case(seed, 3, 12)
    codes, keep = Codes(3), everything(target)
    wide, chosen = rounding.widest(target, codes), rounding.least_steps(hessian, target, target, keep, codes)
    errors = [
        rounding.errors(hessian, target, rounding.nearest(target, steps, codes) * steps[:, :, None])
        for steps in (wide, chosen)
    ]
    assert (errors[1] <= errors[0] + 1e-12).all()
    assert (chosen <= wide * (1 + 1e-12)).all()


def test_the_widest_steps_clip_nothing() -> None:
    weight = torch.tensor([[[3.0, -6.35, 1.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    steps = rounding.widest(weight, Codes(8))
    assert float(steps[0, 0]) == pytest.approx(0.05)
    assert float(steps[0, 1]) > 0
    assert torch.equal(rounding.nearest(weight, steps, Codes(8))[0, 0], torch.tensor([60.0, -127.0, 20.0]).double())


def adaround(hessian: Tensor, target: Tensor, steps: Tensor, start: Tensor, keep: Tensor, codes: Codes) -> Tensor:
    """Codes that AdaRound learns: each weight of `start` (real) goes up or down, decided by a stretched sigmoid of a
    learned number, which a growing penalty drives to 0 or 1 (equations 22 to 24)."""
    scale = steps[:, :, None].float()
    h = hessian.float()
    h = h / h.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)[:, None, None]
    floor = (start.float() / scale).floor()
    rest = (start.float() / scale - floor).clamp(0.01, 0.99)
    zeta, gamma = STRETCH
    logit = (-torch.log((gamma - zeta) / (rest - zeta) - 1)).requires_grad_()
    optimiser = torch.optim.Adam([logit], lr=1e-2)
    goal = target.float() / scale
    for step in range(STEPS):
        up = (torch.sigmoid(logit) * (gamma - zeta) + zeta).clamp(0, 1)
        wrong = torch.where(keep, (floor + up).clamp(codes.low, codes.high), 0.0) - goal
        loss = (wrong @ h * wrong).sum() / 2
        share = step / STEPS
        if share > 0.2:
            beta = 2 + 18 * (1 + torch.cos(torch.tensor(torch.pi * (share - 0.2) / 0.8))) / 2
            loss = loss + 0.05 * (1 - (2 * up - 1).abs().pow(beta)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = floor + (torch.sigmoid(logit) >= 0.5)
    return torch.where(keep, found.clamp(codes.low, codes.high), 0.0).to(target.dtype)


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_descent_ends_below_the_relaxation_of_adaround(bits: int) -> None:
    """On a layer of 16 outputs and 48 inputs, which are strongly correlated; nearest codes are behind both."""
    hessian, target, _ = case(7, 16, 48)
    codes = Codes(bits)
    steps = rounding.widest(target, codes)
    start = rounding.nearest(target, steps, codes)
    ours = rounding.found(hessian, target, steps, target, everything(target), codes)
    theirs = adaround(hessian, target, steps, target, everything(target), codes)
    assert ((theirs - target / steps[:, :, None]).abs() <= 1).all()
    descent, relaxation, nearest = (
        float(rounding.errors(hessian, target, found * steps[:, :, None]).sum()) for found in (ours, theirs, start)
    )
    assert descent < relaxation < nearest
