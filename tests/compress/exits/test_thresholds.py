"""Temperatures against scipy, thresholds against trying all of them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from shoestring.compress.exits.thresholds import TEMPERATURES, _grid, choose, confidences, temperature


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0])
def test_the_temperature_is_the_likeliest(scale: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((400, 5)) * 2
    answers = np.array([rng.choice(5, p=softmax(row)) for row in scores])
    outputs = (scores * scale).astype(np.float32)

    def loss(t: float) -> float:
        return -float(log_softmax(outputs.astype(np.float64) / t, axis=1)[np.arange(400), answers].mean())

    best = minimize_scalar(loss, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-9}).x
    found = temperature(outputs, answers)
    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(scale, rel=0.25)  # what they were drawn with


def test_answers_that_are_all_right_or_none_end_at_a_bound() -> None:
    outputs = np.eye(3) * 4
    assert temperature(outputs, np.arange(3)) == pytest.approx(TEMPERATURES[0])
    assert temperature(outputs, (np.arange(3) + 1) % 3) == pytest.approx(TEMPERATURES[1])


def test_confidences_are_the_largest_probabilities() -> None:
    outputs = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32) * 100
    np.testing.assert_allclose(confidences(outputs, 3.0), softmax(outputs.astype(float) / 3, axis=1).max(1), rtol=1e-12)


def tried(sure: np.ndarray, lost: np.ndarray, ms: list[float], values: tuple[float | None, ...]) -> tuple[float, ...]:
    """Mean ms, points lost and their standard error, input by input."""
    spent, points = [], []
    for index in range(sure.shape[1]):
        leaves = [k for k, t in enumerate(values) if t is not None and sure[k, index] >= t]
        spent.append(ms[leaves[0]] if leaves else ms[-1])
        points.append(100 * lost[leaves[0], index] if leaves else 0.0)
    return float(np.mean(spent)), float(np.mean(points)), float(np.std(points) / np.sqrt(len(points)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 9), st.sampled_from([0.0, 5.0, 12.3, 30.0, 60.0]))
def test_thresholds_are_the_best_of_all(seed: int, exits: int, n: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.integers(0, 6, (exits, n)) / 5  # with ties
    lost = rng.integers(-1, 2, (exits, n)).astype(float)
    ms = sorted(rng.uniform(1, 5, exits + 1).tolist())
    found = choose(sure, lost, ms, most)
    spent, points, error = tried(sure, lost, ms, found.values)
    assert (found.ms, found.lost) == (pytest.approx(spent), pytest.approx(points))
    assert points + error <= most + 1e-6
    assert sum(found.shares) == pytest.approx(1)
    grids = [[None, *np.unique([*row, 0.0])] for row in sure]
    all_of_them = (tried(sure, lost, ms, values) for values in product(*grids))
    assert found.ms == pytest.approx(
        min(spent for spent, points, error in all_of_them if points + error <= most + 1e-6)
    )


def test_of_many_confidences_a_grid_with_as_many_inputs_between_any_two() -> None:
    sure = np.random.default_rng(0).beta(8, 1, 20_000)
    grid = _grid(sure, 64)
    assert len(grid) <= 64
    assert (np.diff(grid) > 0).all()
    assert not np.isin(sure, grid).any()  # halfway: rounding decides nothing
    between = np.histogram(sure, [*grid, 1.0])[0]
    assert between.max() < 2 * 20_000 / 63
    assert choose(np.stack([sure] * 4), np.zeros((4, 20_000)), [1, 2, 3, 4, 5], 0).shares[0] == 1
