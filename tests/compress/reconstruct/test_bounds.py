"""Least squares behind a clip: it never gets worse, and finds what plain least squares cannot see."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shoestring.compress.reconstruct.bounds import aimed, clipped_errors
from shoestring.compress.reconstruct.moments import Moments
from shoestring.compress.reconstruct.quadratic import Quadratic, refit

RELU6 = (0.0, 6.0)
Batch = tuple[Tensor, Tensor]


def case(seed: int) -> tuple[list[Batch], Tensor]:
    """A layer whose outputs are negative about half of the time and at times above 6, and which of its eight weights
    are kept."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 8, 400)).astype(np.float32)
    y = 3 * rng.normal(size=(1, 3, 8)).astype(np.float32) @ x
    keep = torch.from_numpy(rng.random((1, 3, 8)) > 0.4)
    parts = [
        (torch.from_numpy(x[:, :, part]), torch.from_numpy(y[:, :, part])) for part in (slice(150), slice(150, 400))
    ]
    return parts, keep


def step(parts: list[Batch], moments: Moments, weight: Tensor, bias: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    quadratic = Quadratic.of(moments.moved(aimed(parts, 400, weight, bias, RELU6)))
    hessian, target = quadratic.damped(torch.zeros_like(weight), 1e-9)
    found = refit(hessian, target, keep)
    return found, quadratic.bias(found)


def by_hand(parts: list[Batch], weight: Tensor, bias: Tensor) -> np.ndarray:
    x, y = (np.concatenate([part[side][0].numpy() for part in parts], 1) for side in (0, 1))
    written = weight[0].numpy() @ x + bias[0].numpy()[:, None]
    return np.square(np.clip(written, *RELU6) - np.clip(y, *RELU6)).mean(1)


@settings(max_examples=25)
@given(st.integers(0, 999))
def test_three_steps_bring_the_clipped_error_down(seed: int) -> None:
    parts, keep = case(seed)
    moments = Moments.of(parts)
    plain = Quadratic.of(moments)
    hessian, target = plain.damped(torch.zeros(1, 3, 8, dtype=torch.float64), 1e-9)
    weight = refit(hessian, target, keep)
    bias = plain.bias(weight)
    errors = [by_hand(parts, weight, bias)]
    for _ in range(3):
        weight, bias = step(parts, moments, weight, bias, keep)
        errors.append(by_hand(parts, weight, bias))
        np.testing.assert_allclose(clipped_errors(parts, [(weight, bias)], RELU6)[0][0], errors[-1], 1e-3, 1e-5)
    if keep.all():
        assert max(error.max() for error in errors) < 1e-6  # nothing is missing, so nothing is wrong
    assert errors[-1].mean() <= 0.99 * errors[0].mean() + 1e-6


def test_what_lies_beyond_both_is_no_error() -> None:
    """A bound on both sides leaves the target where it is written now, a bound on one side leaves it at the bound."""
    x = torch.tensor([[[-2.0, -1.0, 1.0, 7.0, 9.0]]])
    now = (torch.full((1, 1, 1), 0.5), torch.full((1, 1), 1.0))  # writes 0, 0.5, 1.5, 4.5, 5.5
    ((_, _, moved),) = aimed([(x, x)], 1, *now, (0.0, 5.0))
    assert moved.flatten().tolist() == [0.0, 0.0, 1.0, 5.0, 5.5]


@pytest.mark.parametrize("bounds", [(0.0, float("inf")), (float("-inf"), 1.0)])
def test_one_side_may_be_open(bounds: tuple[float, float]) -> None:
    parts, _ = case(0)
    weight, bias = torch.zeros(1, 3, 8), torch.full((1, 3), 0.5)
    for (x, y), (same, old, moved) in zip(parts, aimed(parts, 400, weight, bias, bounds), strict=True):
        assert same is x
        assert old is y
        inside = (y > bounds[0]) & (y < bounds[1])
        assert torch.equal(moved[inside], y[inside])
        assert torch.equal(moved[~inside], torch.full_like(y, 0.5)[~inside].clamp(max=0.0) if bounds[0] == 0
                           else torch.full_like(y, 1.0)[~inside])  # fmt: skip
