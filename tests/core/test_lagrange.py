"""The dual at scale: a million menus, hard corners, and bounds that hold against brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.core.lagrange import Table, solve


def random_table(seed: int, menus: int, options: int, limits: int, tight: float) -> Table:
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0.1, 2.0, (limits, options, menus))
    losses = rng.exponential(1.0, (options, menus)) + 2 - costs.mean(axis=0)
    least = costs.min(axis=1).sum(axis=1)
    free = costs[:, losses.argmin(axis=0), np.arange(menus)].sum(axis=1)
    return Table(losses, costs, least + tight * (free - least))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.floats(0.0, 1.2))
def test_bounds_hold(seed: int, menus: int, options: int, limits: int, tight: float) -> None:
    """Below the best plan, and infinite only where there is none; a plan that is found fits."""
    table = random_table(seed, menus, options, limits, tight)
    plans = [table.picked(np.array(taken)) for taken in itertools.product(range(options), repeat=menus)]
    best = min((plan.loss for plan in plans if (plan.totals <= table.limits).all()), default=math.inf)
    found = solve(table)
    assert found.bound <= best + 1e-6
    assert (found.prices >= 0).all()
    if found.plan is not None:
        assert (found.plan.totals <= table.limits).all()
        assert found.plan.loss >= best - 1e-9


def test_every_menu_at_once_pays_what_it_should() -> None:
    table = random_table(1, 7, 3, 2, 0.5)
    prices = np.array([0.3, 0.7])
    met = table.best(prices)
    for menu in range(7):
        paid = table.losses[:, menu] + prices @ table.costs[:, :, menu]
        assert met.taken[menu] == paid.argmin()
    assert met.loss == pytest.approx(sum(table.losses[t, m] for m, t in enumerate(met.taken)))


@pytest.mark.parametrize(("limits", "tight"), [(1, 0.5), (1, 0.02), (2, 0.5), (3, 0.8)])
def test_a_hundred_thousand_menus(limits: int, tight: float) -> None:
    table = random_table(2, 100_000, 4, limits, tight)
    found = solve(table)
    assert found.plan is not None
    assert (found.plan.totals <= table.limits).all()
    assert 0 <= found.plan.loss - found.bound < 1e-5 * found.bound


def test_limits_that_do_not_bind_have_no_price() -> None:
    table = random_table(3, 1000, 3, 2, 1.0)
    loose = Table(table.losses, table.costs, table.limits + 1.0)
    found = solve(loose)
    assert found.plan is not None
    assert found.prices.tolist() == [0, 0]
    assert found.plan.loss == pytest.approx(found.bound)


def test_an_option_that_is_not_there_is_never_taken() -> None:
    table = random_table(4, 500, 3, 1, 0.4)
    losses = table.losses.copy()
    losses[2, ::2] = np.inf
    costs = table.costs.copy()
    costs[:, 2, ::2] = 0.0
    found = solve(Table(losses, costs, table.limits + 50))
    assert found.plan is not None
    assert math.isfinite(found.plan.loss)


def test_all_menus_alike() -> None:
    """Ties everywhere: the dual alone would switch all of them at once."""
    losses, costs = np.tile([[0.0], [1.0]], 1000), np.tile([[[1.0], [0.0]]], (1, 1, 1000)).reshape(1, 2, 1000)
    found = solve(Table(losses, costs, np.array([300.5])))
    assert found.plan is not None
    assert found.plan.loss == 700
    assert found.bound == pytest.approx(699.5, abs=0.01)
