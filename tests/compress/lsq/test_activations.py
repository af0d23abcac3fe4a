"""Activation quantisers: values against NumPy, offsets that become zero points, steps that stay positive."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from shoestring.compress.lsq.activations import ActivationQuantiser
from shoestring.compress.lsq.initialise import Start, min_max

NOISE = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def started(bits: int, start: Start, signed: bool = False, learns_offset: bool = True) -> ActivationQuantiser:
    quantiser = ActivationQuantiser(bits)
    quantiser(NOISE)
    quantiser.start(start, signed, learns_offset)
    return quantiser


def expected(x: Tensor, step: float, offset: float, low: int, high: int) -> np.ndarray:
    """In float64."""
    codes = np.clip(np.rint((x.double().numpy() - offset) / step), low, high)
    return codes * step + offset


def through_a_byte(x: Tensor, quantiser: ActivationQuantiser) -> np.ndarray:
    """What the file computes with the quantiser's grid, in NumPy's float32, and that the grid is one of a byte."""
    scale, zero, low, high = quantiser.byte_grid()
    assert 0 <= low < high <= 255 and 0 <= zero <= 255 and high - low == 2**quantiser.bits - 1
    step = np.float32(scale)
    codes = np.clip(np.rint(x.detach().numpy() / step) + zero, low, high).astype(np.uint8)
    return (codes.astype(np.float32) - np.float32(zero)) * step


def test_until_it_starts_values_pass_and_a_sample_is_kept() -> None:
    quantiser = ActivationQuantiser(4)
    assert quantiser(NOISE) is NOISE
    quantiser(2 * NOISE)
    assert torch.equal(quantiser.observe(), torch.cat([NOISE.flatten(), 2 * NOISE.flatten()]))
    assert int(quantiser.features) == 3 * 8 * 8  # of one input, not of the batch
    quantiser.start(Start(0.1, 0.0), signed=False, learns_offset=False)
    assert quantiser.sample == []
    assert not torch.equal(quantiser(NOISE), NOISE)


def test_the_sample_is_of_all_columns() -> None:
    """Every 8th value of maps 8 wide would be of one column, the one at the border."""
    quantiser = ActivationQuantiser(4)
    x = torch.arange(8.0).expand(16, 64, 64, 8).contiguous()
    quantiser(x)
    values, counts = quantiser.observe().unique(return_counts=True)
    assert len(quantiser.observe()) <= 2**16
    assert values.tolist() == list(range(8)) and counts.min() > 0.9 * counts.max()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("signed", "offset"), [(False, None), (True, None), (True, -0.31), (False, -0.31)])
def test_values(bits: int, signed: bool, offset: float | None) -> None:
    """Configurations 1 to 4."""
    step, low = 4 / 2**bits, -(2 ** (bits - 1)) if signed else 0
    quantiser = started(bits, Start(step, offset or 0.0), signed, offset is not None)
    assert quantiser.offset.requires_grad == (offset is not None)
    found = quantiser(NOISE).detach().numpy()
    np.testing.assert_allclose(found, expected(NOISE, step, offset or 0.0, low, low + 2**bits - 1), atol=1e-6)
    assert len(np.unique(found)) <= 2**bits


@pytest.mark.parametrize("signed", [False, True])
def test_gradients_are_scaled_by_features_and_highest_code(signed: bool) -> None:
    """LSQ section 2.2: 1 / sqrt(N Q_P), N the features of one input."""
    quantiser = started(4, Start(0.25, -0.1), signed)
    quantiser(NOISE).sum().backward()
    low, high = (-8, 7) if signed else (0, 15)
    z = (NOISE.double().numpy() + 0.1) / 0.25
    by_step = np.where(z <= low, low, np.where(z >= high, high, np.rint(z) - z)).sum()
    by_offset = ((z <= low) | (z >= high)).sum()
    scale = 1 / math.sqrt(192 * high)
    assert quantiser.step.grad.item() == pytest.approx(by_step * scale, rel=1e-5)
    assert quantiser.offset.grad.item() == pytest.approx(by_offset * scale, rel=1e-5)


OFFSETS = {
    "below": Start(0.25, -0.3),
    "half-way": Start(0.25, -0.375),
    "zero": Start(0.25, 0.0),
    "above, beyond zero": Start(0.25, 1.1),
    "all negative": Start(0.25, -7.6),
}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", OFFSETS)
def test_a_fixed_offset_is_a_whole_number_of_steps_and_fits_a_byte(name: str, signed: bool, bits: int) -> None:
    """Zero is a code, what is computed then is what the file computes, and it is near what was computed before."""
    start = OFFSETS[name]
    quantiser = started(bits, Start(start.step, start.offset + (2 ** (bits - 1) * start.step if signed else 0)), signed)
    x = NOISE + start.offset + 1
    before = quantiser(x).detach()
    quantiser.fix()
    after, grid = quantiser(x).detach(), quantiser.byte_grid()
    assert np.array_equal(after.numpy(), through_a_byte(x, quantiser))
    assert torch.equal((after / quantiser.positive_step()).round() * quantiser.positive_step(), after)
    if bits < 8 or start.offset < 1:  # 256 codes above zero have no room but from zero upwards
        assert (after - before).abs().max() <= 1.51 * start.step  # half a step of offset, and one of another rounding
    else:
        assert grid.scale == pytest.approx((start.offset + 255 * start.step) / 255) and grid.zero_point == 0
    assert not quantiser.offset.requires_grad
    quantiser.fix()
    assert quantiser.byte_grid() == grid  # twice is once


FAR = {
    "narrow and negative": -0.5 - 0.1 * torch.rand(1000, generator=torch.Generator().manual_seed(0)),
    "narrow, far above zero": 5 + 0.1 * torch.rand(1000, generator=torch.Generator().manual_seed(0)),
    "constant": torch.full((1000,), -0.3),
    "almost constant": torch.cat([torch.full((999,), -0.3), torch.tensor([-0.3000001])]),
    "tiny": 1e-12 * torch.randn(1000, generator=torch.Generator().manual_seed(0)),
    "wide": 1e6 * torch.randn(1000, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", FAR)
def test_far_from_zero_the_step_grows_until_zero_is_within_the_byte(name: str, bits: int, signed: bool) -> None:
    """Fixing loses no more than a step of a grid that spans the values, or of one that spans 255 codes from zero."""
    x = FAR[name]
    low = -(2 ** (bits - 1)) if signed else 0
    start = min_max(x, low, low + 2**bits - 1)
    quantiser = started(bits, start, signed)
    quantiser.fix()
    found = quantiser(x).detach()
    assert np.array_equal(found.numpy(), through_a_byte(x, quantiser))
    step = max(start.step, float(x.abs().max()) / 255)
    assert (found - x).abs().max() <= 1.01 * step


@pytest.mark.parametrize("at", [0.0, -0.25, 1e-20, -1e-30, 1e-40])
@pytest.mark.parametrize("fixed", [False, True])
def test_the_step_stays_positive(at: float, fixed: bool) -> None:
    """Training may push it to zero or beyond: what is computed, its gradients and the exported grid stay finite."""
    quantiser = started(4, Start(0.25, -300.0), signed=True)
    quantiser.step.data.fill_(at)
    if fixed:
        quantiser.fix()
    x = (1000 * NOISE).requires_grad_()
    y = quantiser(x)
    y.square().sum().backward()
    assert quantiser.positive_step() > 0
    gradients = [x.grad, quantiser.step.grad] + ([] if fixed else [quantiser.offset.grad])
    assert all(value.isfinite().all() for value in (y, *gradients))
    quantiser.fix()
    assert quantiser.byte_grid().scale > 0
    assert quantiser(x).isfinite().all()


def test_a_step_pushed_below_zero_comes_back() -> None:
    """Gradient descent on the error, from a step that one bad update has made negative."""
    quantiser = started(4, Start(0.25, 0.0), signed=True, learns_offset=False)
    with torch.no_grad():
        quantiser.step.fill_(-0.02)
    optimiser = torch.optim.SGD(quantiser.parameters(), 0.02)
    for _ in range(50):
        optimiser.zero_grad()
        (quantiser(NOISE) - NOISE).square().sum().backward()
        optimiser.step()
    best = started(4, Start(0.35, 0.0), signed=True, learns_offset=False)
    error, least = ((q(NOISE) - NOISE).square().mean().item() for q in (quantiser, best))
    assert error < 1.3 * least


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_the_state_is_all_there_is(fixed: bool, signed: bool) -> None:
    """A fresh quantiser with the state of another computes the same; so does a copy."""
    quantiser = started(4, Start(0.25, -0.3), signed)
    if fixed:
        quantiser.fix()
    fresh = ActivationQuantiser(4)
    fresh.load_state_dict(quantiser.state_dict())
    for other in (fresh, copy.deepcopy(quantiser)):
        assert torch.equal(other(NOISE), quantiser(NOISE))
        other.fix()
    quantiser.fix()
    assert fresh.byte_grid() == quantiser.byte_grid()
