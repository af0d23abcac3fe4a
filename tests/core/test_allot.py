"""Shares of zeros under a budget of time, against all combinations of levels."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.core.allot import LEVELS, allot, lost
from shoestring.core.cost import Cost


def by_hand(norms: np.ndarray, sizes: np.ndarray, level: float) -> float:
    """Blocks one by one, the smallest first."""
    gone, squares = 0, 0.0
    for norm, size in sorted(zip(norms.ravel(), sizes.ravel(), strict=True), key=lambda pair: pair[0]):
        if gone + size > level * sizes.sum() / 100:
            break
        gone, squares = gone + size, squares + norm**2
    return squares / (norms**2).sum()


@given(st.integers(0, 999), st.integers(1, 30))
def test_what_the_smallest_blocks_hold(seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    norms, sizes = rng.random((1, blocks)) + 0.01, rng.integers(1, 5, (1, blocks))
    levels = [0, 12.5, 50, 95, 100]
    assert lost(norms, sizes, levels) == pytest.approx([by_hand(norms, sizes, level) for level in levels])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 999), st.sampled_from([30, 50, 80]))
def test_against_all_combinations(seed: int, percent: float) -> None:
    rng = np.random.default_rng(seed)
    norms = {name: rng.random(40) ** rng.integers(1, 4) for name in "ab"}
    sizes = {name: np.full(40, 4) for name in "ab"}
    costs = {name: Cost((0.0, 0.5, 0.9), tuple(np.sort(rng.random(3) * 9)[::-1])) for name in "ab"}
    found = allot(norms, sizes, percent, costs)
    limit = sum(costs[name].at(percent / 100) for name in "ab")
    losses = {name: dict(zip(LEVELS, lost(norms[name], sizes[name], LEVELS), strict=True)) for name in "ab"}
    every = [
        losses["a"][a] + losses["b"][b]
        for a, b in product(LEVELS, LEVELS)
        if costs["a"].at(a / 100) + costs["b"].at(b / 100) <= limit + 1e-9
    ]
    assert sum(costs[name].at(found[name] / 100) for name in "ab") <= limit + 1e-6
    assert sum(losses[name][found[name]] for name in "ab") <= min(every) + 1e-6


def test_time_is_saved_where_it_is_spent() -> None:
    """Two equal layers, one of which takes ten times as long: it loses more."""
    norms = {name: np.linspace(0.1, 1, 100) for name in ("slow", "quick")}
    sizes = {name: np.ones(100) for name in norms}
    costs = {"slow": Cost((0.0, 1.0), (10.0, 0.0)), "quick": Cost((0.0, 1.0), (1.0, 0.0))}
    found = allot(norms, sizes, 50, costs)
    assert found["slow"] > 50 > found["quick"]


def test_nothing_to_remove() -> None:
    flat = {"a": Cost((0.0, 1.0), (1.0, 1.0))}
    assert allot({"a": np.ones(8)}, {"a": np.ones(8)}, 50, flat) == {"a": 0.0}
    assert lost(np.zeros(4), np.ones(4), [50]) == [0.0]
