"""The error of a layer as a quadratic, against what least squares gives on the inputs themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoestring.compress.reconstruct.moments import Moments
from shoestring.compress.reconstruct.quadratic import Quadratic, refit


def case(seed: int, positions: int = 200) -> tuple[np.ndarray, np.ndarray, Quadratic]:
    """x [2, 5, p], y [2, 3, p] in two groups, and the quadratic of both."""
    rng = np.random.default_rng(seed)
    mixing, means = np.eye(5) + 0.3 * rng.normal(size=(2, 5, 5)), rng.normal(size=(2, 5, 1))
    mixed = mixing @ rng.normal(size=(2, 5, positions)) + means
    y = rng.normal(size=(2, 3, 5)) @ mixed + 0.3 * rng.normal(size=(2, 3, positions)) + 2
    x, y = mixed.astype(np.float32), y.astype(np.float32)
    moments = Moments.of([(torch.from_numpy(x), torch.from_numpy(y))])
    return x, y, Quadratic.of(moments)


def best(x: np.ndarray, y: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Least squares of one output on some inputs and a constant: weight, bias, mean squared error."""
    design = np.column_stack([x[columns].T, np.ones(x.shape[1])]).astype(float)
    found, *_ = np.linalg.lstsq(design, y.astype(float), rcond=None)
    return found[:-1], float(found[-1]), float(np.square(design @ found - y).mean())


@given(st.integers(0, 999))
def test_rows_are_the_errors_with_the_best_bias(seed: int) -> None:
    x, y, quadratic = case(seed)
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3, 5)))
    bias = quadratic.bias(weight).numpy()
    for group in range(2):
        rest = y[group] - weight[group].numpy() @ x[group]
        np.testing.assert_allclose(bias[group], rest.mean(1), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(quadratic.rows(weight)[group], rest.var(1), rtol=1e-3, atol=1e-4)


@given(st.integers(0, 999))
def test_refit_is_least_squares_on_what_is_kept(seed: int) -> None:
    x, y, quadratic = case(seed)
    rng = np.random.default_rng(seed)
    keep = torch.from_numpy(rng.random((2, 3, 5)) > 0.4)
    hessian, target = quadratic.damped(torch.zeros(2, 3, 5, dtype=torch.float64), 1e-9)
    found = refit(hessian, target, keep)
    assert not found[~keep].any()
    bias = quadratic.bias(found)
    for group in range(2):
        for row in range(3):
            columns = np.flatnonzero(keep[group, row])
            weight, constant, error = best(x[group], y[group, row], columns)
            np.testing.assert_allclose(found[group, row, columns], weight, rtol=1e-2, atol=1e-3)
            np.testing.assert_allclose(bias[group, row], constant, rtol=1e-2, atol=1e-2)
            np.testing.assert_allclose(quadratic.rows(found)[group, row], error, rtol=1e-2, atol=1e-4)


def test_damping_holds_a_weight_where_the_inputs_say_nothing() -> None:
    """The second input never varies: the first is fitted, the second stays."""
    x = torch.randn(1, 1, 500, generator=torch.Generator().manual_seed(0))
    moments = Moments.of([(torch.cat([x, torch.full_like(x, 2.0)], 1), 3 * x)])
    weight = torch.tensor([[[1.0, 7.0]]], dtype=torch.float64)
    hessian, target = Quadratic.of(moments).damped(weight, 1e-3)
    np.testing.assert_allclose(target[0, 0], [3, 7], rtol=2e-3)
    assert (torch.linalg.eigvalsh(hessian) > 0).all()


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_damping_is_the_ridge_that_it_says(share: float) -> None:
    """(W - T) H (W - T)' and error + share * mean variance * |W - weight|^2 differ by a constant only."""
    _, _, quadratic = case(1)
    rng = np.random.default_rng(1)
    weight, *tried = (torch.from_numpy(rng.normal(size=(2, 3, 5))) for _ in range(4))
    hessian, target = quadratic.damped(weight, share)
    mean = quadratic.hessian.diagonal(dim1=1, dim2=2).mean(1)[:, None]
    constants = []
    for one in tried:
        ours = ((one - target) @ hessian * (one - target)).sum(2)
        constants.append(ours - quadratic.rows(one) - share * mean * (one - weight).square().sum(2))
    torch.testing.assert_close(constants[0], constants[1])
    torch.testing.assert_close(constants[0], constants[2])
