"""Soft masks, their gradients and their prices, against formulas in float64 and differences of losses."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shoestring.compress.ltp.thresholds import Pressure, Threshold
from shoestring.core.blocks import MOST
from shoestring.core.cost import Cost
from shoestring.core.pattern import BlockPattern

SINGLE, FOUR = BlockPattern(1, 1), BlockPattern(4, 1)


def threshold(weight: Tensor, pattern: BlockPattern = SINGLE, steered: bool = False, heat: float = 0.5) -> Threshold:
    made = Threshold(weight, torch.ones(len(weight)), pattern, 1, heat, Pressure(), steered).double()
    made.scale, made.sizes, made.heat = made.scale.double(), made.sizes.double(), made.heat.double()
    return made


def weight_of(seed: int = 0, shape: tuple[int, ...] = (8, 6)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft(weight: Tensor, tau: float, heat: float) -> Tensor:
    return torch.sigmoid((weight.square() - tau) / heat)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers as they are, neither divided nor cut off."""
    monkeypatch.setattr("shoestring.compress.ltp.thresholds._Answer.backward", staticmethod(lambda ctx, g: (g, None)))


def test_the_temperature_is_a_part_of_the_variance() -> None:
    """T = T0 var|w|, arXiv 2003.00075 equation 15."""
    weight = weight_of().float()
    found = Threshold(weight, torch.ones(8), SINGLE, 1, 0.01, Pressure(), False)
    assert float(found.heat) == pytest.approx(0.01 * np.abs(weight.numpy()).var(), rel=1e-5)


def test_the_soft_mask() -> None:
    weight = weight_of()
    found = threshold(weight)
    with torch.no_grad():
        found.learned.fill_(0.7)
    heat = float(found.heat)
    torch.testing.assert_close(found(weight), weight * soft(weight, 0.7 * heat, heat), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("bare")
def test_gradients_by_formula() -> None:
    """dL/dw = m dL/dv (equation 14: the mask does not see w); dL/dtau = -sum of dL/dv w m (1 - m) / T."""
    weight = weight_of().requires_grad_()
    found, g = threshold(weight.detach()), weight_of(1)
    with torch.no_grad():
        found.learned.fill_(0.7)
    (found(weight) * g).sum().backward()
    mask = soft(weight.detach(), 0.7 * float(found.heat), float(found.heat))
    torch.testing.assert_close(weight.grad, mask * g, rtol=1e-5, atol=1e-7)
    wanted = -(g * weight.detach() * mask * (1 - mask)).sum()  # by theta = tau / T
    torch.testing.assert_close(found.learned.grad, wanted[None], rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("pattern", [SINGLE, FOUR, BlockPattern(4, 4)])
def test_gradients_by_differences(pattern: BlockPattern) -> None:
    """Of a loss that is not linear, by what is learned; steered, that is the logarithm of the threshold."""
    weight = weight_of()
    found = threshold(weight, pattern, steered=True)
    found.begin(weight, 0.4)
    found.pressure.level.fill_(1.0)

    def loss() -> Tensor:
        return (found(weight) @ weight_of(2, (6, 3))).sin().sum()

    loss().backward()
    with torch.no_grad():
        found.learned.add_(1e-4)
        high = loss()
        found.learned.sub_(2e-4)
        low = loss()
    assert float(found.learned.grad) == pytest.approx(float(high - low) / 2e-4, rel=1e-3)


def test_the_mask_sees_no_gradient_or_the_band_would_empty() -> None:
    """Two layers, a teacher, one lambda: with the exact gradient weights are pushed out of the band in which thresholds
    learn (the paper's premature termination), and more of them stay; detached they are not."""

    def trained(exact: bool) -> tuple[float, float]:
        torch.manual_seed(0)
        x = torch.randn(256, 16)
        y = (x @ torch.randn(16, 32)).relu() @ torch.randn(32, 4) / 5
        weights = [nn.Parameter(torch.randn(32, 16) / 4), nn.Parameter(torch.randn(4, 32) / 5)]
        taus = [torch.zeros(1, requires_grad=True) for _ in weights]
        heats = [0.03 * float(weight.detach().abs().var()) for weight in weights]
        optimiser = torch.optim.SGD([{"params": weights, "lr": 5e-3}, {"params": taus, "lr": 1e-6}], momentum=0.9)
        for _ in range(600):
            squares = [(weight if exact else weight.detach()).square() for weight in weights]
            masks = [torch.sigmoid((s - tau) / heat) for s, tau, heat in zip(squares, taus, heats, strict=True)]
            out = (x @ (weights[0] * masks[0]).T).relu() @ (weights[1] * masks[1]).T
            ((out - y).square().mean() + 1e-3 * sum(mask.sum() for mask in masks)).backward()
            optimiser.step()
            optimiser.zero_grad()
        distance = (weights[0].square() - taus[0]).detach() / heats[0]
        return float((distance.abs() < 4).float().mean()), float((distance > 0).float().mean())

    (near, kept), (near_exact, kept_exact) = trained(exact=False), trained(exact=True)
    assert near > 2 * near_exact
    assert kept < kept_exact


def test_folded_scales_count() -> None:
    """Blocks are compared as the batch norm will scale them."""
    weight, scale = torch.ones(8, 2), torch.tensor([3.0] * 4 + [1.0] * 4)
    found = Threshold(weight, scale, FOUR, 1, 0.1, Pressure(), True)
    ratio = found.energies(weight)[0, 0, :, 0] / found.energies(weight)[0, 1, :, 0]
    torch.testing.assert_close(ratio, torch.tensor([9.0, 9.0]))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9])
def test_where_a_threshold_begins(share: float) -> None:
    weight = weight_of(3, (40, 25))
    found = threshold(weight, FOUR, steered=True)
    found.begin(weight, share)
    found.pressure.level.fill_(1.0)
    assert found.gone_of(found.energies(weight)) == pytest.approx(share, abs=1 / 250)


def test_something_is_left_of_every_layer() -> None:
    weight = weight_of(4, (40, 25))
    for steered in (False, True):
        found = threshold(weight, FOUR, steered)
        found.pressure.level.fill_(1.0)
        with torch.no_grad():
            found.learned.fill_(1e4 if not steered else 20.0)  # as far as it goes
        found.bound(weight)
        assert found.gone_of(found.energies(weight)) <= MOST / 100
        assert found.gone_of(found.energies(weight)) >= MOST / 100 - 0.01
    with torch.no_grad():
        (below := threshold(weight)).learned.fill_(-3.0)
    below.bound(weight)
    assert float(below.learned.detach()) == 0


def test_what_is_fixed_is_exact() -> None:
    weight = weight_of().requires_grad_()
    found = threshold(weight.detach(), FOUR)
    with torch.no_grad():
        found.learned.fill_(float(found.energies(weight).median()))
    keep = found.decide(weight.detach())
    found.fix(weight.detach())
    assert torch.equal(found(weight) == 0, ~keep)
    assert FOUR.sparsity(found(weight).detach().numpy()) == pytest.approx(0.5, abs=0.05)
    found(weight).sum().backward()
    assert torch.equal(weight.grad != 0, keep)
    assert not found.learned.requires_grad


def test_what_is_left_and_what_a_rise_saves() -> None:
    """Against the cost by hand: its value, and its derivative by the threshold from differences."""
    weight = weight_of()
    found = threshold(weight, heat=2.0)
    found.cost = Cost((0.0, 0.5, 1.0), (0.6, 0.2, 0.1))

    def left(learned: float) -> float:
        with torch.no_grad():
            found.learned.fill_(learned)
        found(weight)
        return found.left

    rise = left(0.40) - left(0.41)
    heat = float(found.heat)
    assert left(0.405) == pytest.approx(found.cost.at(1 - float(soft(weight, 0.405 * heat, heat).mean())))
    assert found.leverage == pytest.approx(rise / 0.01, rel=0.01)


def test_answers_are_measured_in_their_typical_size() -> None:
    pressure = Pressure()
    assert float(pressure.scaled(torch.tensor([2.0]))) == 1
    assert float(pressure.scaled(torch.tensor([2.0]))) == pytest.approx(1)
    assert float(pressure.typical) == pytest.approx(2)
    assert float(pressure.scaled(torch.tensor([1e6]))) <= math.sqrt(3) + 1e-3  # it is a third of what is known by now
    pressure = Pressure()
    for _ in range(5000):
        pressure.scaled(torch.tensor([-5.0]))
    assert float(pressure.scaled(torch.tensor([100.0]))) == 3  # cut off


def test_trading_is_about_the_difference_to_the_price() -> None:
    """Two layers that answer as much for what they save do not move; a third that answers more is spared."""
    pressure = Pressure()
    pressure.trades.fill_(1.0)
    for _ in range(2000):
        level = [float(pressure.traded(torch.tensor([answer]), saved)) for answer, saved in ((2.0, 1.0), (4.0, 2.0))]
    assert level == pytest.approx([0, 0], abs=1e-3)
    assert float(pressure.traded(torch.tensor([3.0]), 1.0)) > 0  # down goes what descends along a positive gradient
    assert float(pressure.traded(torch.tensor([1.0]), 1.0)) < 0
    pressure.trades.fill_(0.0)
    assert float(pressure.traded(torch.tensor([3.0]), 1.0)) == 0
