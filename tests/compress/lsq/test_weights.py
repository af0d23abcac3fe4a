"""Weight quantisers: codes and values against NumPy, 16-bit sums by brute force over pairs."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shoestring.compress.lsq.weights import WeightQuantiser, pair_bound
from shoestring.deploy.quantize import safe16_range

SHAPES = [(6, 4, 3, 3), (6, 3, 3, 3), (5, 7), (5, 8), (6, 1, 3, 3), (4, 1, 1, 1), (4, 6, 5)]


def weight(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def started(w: Tensor, bits: int, steps: Tensor, safe16: bool = False) -> WeightQuantiser:
    quantiser = WeightQuantiser(w, bits, steps, safe16)
    quantiser.started.fill_(True)
    return quantiser


def bounds(bits: int) -> tuple[int, int]:
    return max(-(2 ** (bits - 1)), -127), 2 ** (bits - 1) - 1


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_and_values(shape: tuple[int, ...], bits: int, per_channel: bool) -> None:
    """int8 codes within their bits; what the network computes with is codes times steps, exactly."""
    w = weight(shape)
    steps = (2.5 + torch.arange(shape[0] if per_channel else 1) / 8) / 2**bits
    quantiser = started(w, bits, steps)
    codes, used = quantiser.codes(w)
    assert codes.dtype == torch.int8 and codes.shape == w.shape and used.shape == (shape[0],)
    assert torch.equal(used, steps.expand(shape[0]))
    column = steps.expand(shape[0]).numpy().reshape(-1, *[1] * (len(shape) - 1))
    expected = np.clip(np.rint(w.numpy() / column), *bounds(bits))
    assert np.array_equal(codes.numpy(), expected)
    assert expected.max() == bounds(bits)[1] or bits == 8 or len(w.flatten()) < 10
    assert np.array_equal(quantiser(w).detach().numpy(), expected.astype(np.float32) * column)


def test_until_it_starts_the_weight_passes() -> None:
    w = weight((3, 4))
    assert WeightQuantiser(w, 4, torch.ones(1), False)(w) is w


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_gradient_scale(per_channel: bool) -> None:
    """1 / sqrt(N Q_P), N the weights that share the step."""
    w = weight((6, 4, 3, 3))
    steps = torch.full((6 if per_channel else 1,), 0.2)
    quantiser = started(w, 4, steps)
    quantiser(w).sum().backward()
    z = w.double().numpy() / np.float32(0.2)
    by_step = np.where(z <= -8, -8, np.where(z >= 7, 7, np.rint(z) - z)).reshape(len(steps), -1).sum(1)
    np.testing.assert_allclose(quantiser.steps.grad, by_step / math.sqrt((36 if per_channel else 216) * 7), rtol=1e-4)


def largest_pair(codes: np.ndarray) -> int:
    """The largest sum of same-signed codes of neighbouring inputs (2i, 2i + 1) at one place; of any two weights of an
    output where the number of inputs is odd."""
    codes = codes.astype(int).reshape(*codes.shape[:2], -1)
    best = 0
    for row in codes:
        if row.shape[0] % 2:
            pairs = list(itertools.combinations(row.ravel(), 2)) or [(row.item(), 0)]
        else:
            pairs = [
                (a, b) for even, odd in zip(row[::2], row[1::2], strict=True) for a, b in zip(even, odd, strict=True)
            ]
        best = max(best, *(abs(a + b) if a * b > 0 else max(abs(a), abs(b)) for a, b in pairs))
    return best


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pairs_fit_sixteen_bits(shape: tuple[int, ...], per_channel: bool) -> None:
    """However small training makes the steps: 255 * 128 < 2^15. Without `safe16` they do not fit."""
    for seed in range(5):
        w = weight(shape, seed)
        steps = torch.full((shape[0] if per_channel else 1,), 1e-3)
        codes, _ = started(w, 8, steps, safe16=True).codes(w)
        assert 100 < largest_pair(codes.numpy()) <= 128
        assert largest_pair(started(w, 8, steps).codes(w)[0].numpy()) > 128 or math.prod(shape[1:]) == 1


def test_steps_that_are_large_enough_are_left_alone() -> None:
    w, steps = weight((6, 4, 3, 3)), torch.tensor([0.5, 1e-3, 0.5, 1e-3, 0.5, 0.5])
    quantiser = started(w, 8, steps, safe16=True)
    used = quantiser.positive_steps(w)
    assert torch.equal(used[[0, 2, 4, 5]], steps[[0, 2, 4, 5]]) and (used[[1, 3]] > steps[[1, 3]]).all()
    quantiser(w).sum().backward()
    assert (quantiser.steps.grad[[1, 3]] == 0).all() and (quantiser.steps.grad[[0, 2, 4, 5]] != 0).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bound_is_the_exporters(shape: tuple[int, ...]) -> None:
    for seed in range(5):
        w = weight(shape, seed)
        np.testing.assert_array_equal(pair_bound(w).numpy(), safe16_range(w.numpy()))


@pytest.mark.parametrize("at", [0.0, -0.2, 1e-30, 1e-40])
@pytest.mark.parametrize("channels", [1, 6])
def test_the_step_stays_positive(at: float, channels: int) -> None:
    w = (1000 * weight((6, 4, 3, 3))).requires_grad_()
    quantiser = started(w, 4, torch.full((channels,), 0.2))
    quantiser.steps.data.fill_(at)
    y = quantiser(w)
    y.square().sum().backward()
    assert (quantiser.positive_steps(w) > 0).all()
    assert y.isfinite().all() and w.grad.isfinite().all() and quantiser.steps.grad.isfinite().all()
    assert torch.equal(y.sign(), torch.where(y == 0, 0, w.sign()))
    if at == -0.2:
        assert torch.equal(y, started(w, 4, torch.full((channels,), 0.2))(w))


@pytest.mark.parametrize("value", [0.0, 1e-20, 1e-42])
def test_a_dead_channel_comes_alive_without_harm(value: float) -> None:
    """Its step starts next to nothing, and training grows both."""
    w = nn.Parameter(torch.cat([weight((2, 8)), torch.full((1, 8), value)]))
    quantiser = started(w, 4, torch.tensor([0.3, 0.3, 0.0]))
    optimiser = torch.optim.SGD([w, *quantiser.parameters()], 0.05, momentum=0.9)
    for _ in range(150):
        optimiser.zero_grad()
        (quantiser(w) - 1).square().sum().backward()
        optimiser.step()
    assert torch.stack([w.isfinite().all(), quantiser.steps.isfinite().all()]).all()
    assert quantiser(w)[2].detach().numpy() == pytest.approx(1, abs=0.3)


def test_as_a_parametrization() -> None:
    """It trains the float weight, copies, and its state is all there is."""
    layers = [nn.Conv2d(4, 6, 3, bias=False) for _ in range(2)]
    for layer in layers:
        steps = torch.full((6,), 0.05 if layer is layers[0] else 0.5)
        quantiser = WeightQuantiser(layer.weight, 4, steps, safe16=False)
        parametrize.register_parametrization(layer, "weight", quantiser, unsafe=True)
    before = layers[0].parametrizations.weight.original.clone()
    assert torch.equal(layers[0].weight, before)
    layers[0].parametrizations.weight[0].started.fill_(True)
    layers[1].load_state_dict(layers[0].state_dict())
    x = weight((1, 4, 8, 8))
    assert not torch.equal(layers[0].weight, before)
    assert torch.equal(layers[0](x), layers[1](x))
    assert torch.equal(layers[0](x), copy.deepcopy(layers[0])(x))
    layers[0](x).square().sum().backward()
    assert layers[0].parametrizations.weight.original.grad.abs().sum() > 0
