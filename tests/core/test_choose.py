"""The solver against every combination, against dynamic programming, and its prices against Lagrangian duality."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from shoestring.core.choose import cheapest, choose, choose_many, totals
from shoestring.core.errors import BadInput, NotMet
from shoestring.core.plan import Menu, Option, Plan

Instance = tuple[list[Menu], dict[str, float]]


def total(picks: Sequence[Option], name: str) -> float:
    return sum(option.costs.get(name, 0) for option in picks)


def fitting(menus: Sequence[Menu], limits: Mapping[str, float]) -> list[tuple[Option, ...]]:
    """All combinations that keep every limit."""
    every = itertools.product(*(menu.options for menu in menus))
    return [picks for picks in every if all(total(picks, name) <= limit for name, limit in limits.items())]


def least_loss(menus: Sequence[Menu], limits: Mapping[str, float]) -> float:
    return min((sum(option.loss for option in picks) for picks in fitting(menus, limits)), default=math.inf)


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Whole numbers, so that ties and limits met exactly are common and sums are exact."""
    names = draw(st.lists(st.sampled_from(["latency", "size", "memory"]), unique=True))
    costs = st.fixed_dictionaries({}, optional={name: st.integers(-3, 9) for name in names})
    option = st.builds(Option, st.just("o"), costs, st.integers(-4, 9))
    options = draw(st.lists(st.lists(option, min_size=1, max_size=4), max_size=5))
    menus = [Menu(f"item{index}", tuple(entries)) for index, entries in enumerate(options)]
    return menus, {name: draw(st.integers(-10, 30)) for name in names}


def why_not(menus: Sequence[Menu], limits: Mapping[str, float]) -> str:
    """The first limit that cannot be met even alone, with the least that it could be; else all of them."""
    for name, limit in limits.items():
        least = sum(min(total([option], name) for option in menu.options) for menu in menus)
        if least > limit:
            return f"{name}<={limit} cannot be met: the cheapest plan takes {least}"
    return f"no plan meets {', '.join(f'{name}<={limit}' for name, limit in limits.items())} together"


def check_what_would_do(told: str, menus: Sequence[Menu], limits: Mapping[str, float]) -> None:
    """Each proposed limit is met with the others as they are, and no smaller one is; costs are whole numbers."""
    if "together" not in told:
        return
    proposed = {name: int(value) for name, value in re.findall(r"(\w+)<=(-?\d+)", told.partition("; ")[2])}
    for name in limits:
        every = itertools.product(*(menu.options for menu in menus))
        others = [p for p in every if all(total(p, n) <= limit for n, limit in limits.items() if n != name)]
        assert proposed.get(name) == min((total(picks, name) for picks in others), default=None)
    assert bool(proposed) == ("one of these would do" in told)


@given(instances())
def test_the_plan_is_the_best_of_all_combinations(instance: Instance) -> None:
    menus, limits = instance
    best = least_loss(menus, limits)
    if best == math.inf:
        with pytest.raises(NotMet, match=f"^{re.escape(why_not(menus, limits))}") as refused:
            choose(menus, limits)
        check_what_would_do(str(refused.value), menus, limits)
        return
    plan = choose(menus, limits)
    assert list(plan.picks) == [menu.item for menu in menus]
    assert all(plan.picks[menu.item] in menu.options for menu in menus)
    assert plan.loss == sum(option.loss for option in plan.picks.values()) == best
    assert all(plan.totals[name] == total([*plan.picks.values()], name) <= limits[name] for name in limits)
    assert plan.gap == pytest.approx(0, abs=1e-8)
    assert plan.prices.keys() == limits.keys()
    assert all(price >= 0 for price in plan.prices.values())


def test_limits_that_cannot_be_met_together_are_named() -> None:
    menus = [Menu("a", (Option("quick", {"latency": 1, "size": 5}), Option("small", {"latency": 5, "size": 1})))]
    told = "no plan meets latency<=2, size<=2 together; one of these would do: latency<=5, size<=5"
    with pytest.raises(NotMet, match=f"^{told}$"):
        choose(menus, {"latency": 2, "size": 2})


def test_what_would_do_is_not_rounded_down() -> None:
    options = Option("quick", {"latency": 1, "size": 1.23456}), Option("small", {"latency": 5, "size": 1})
    with pytest.raises(NotMet, match=r"latency<=5, size<=1\.235$"):
        choose([Menu("a", options)], {"latency": 2, "size": 1.1})


def by_dynamic_programming(menus: Sequence[Menu], limit: int) -> float:
    """The least loss at every total cost up to the limit, one menu after the other."""
    best = {0: 0.0}
    for menu in menus:
        longer: dict[int, float] = {}
        for spent, loss in best.items():
            for option in menu.options:
                now = spent + int(option.costs["latency"])
                if now <= limit:
                    longer[now] = min(longer.get(now, math.inf), loss + option.loss)
        best = longer
    return min(best.values())


def random_menus(seed: int, count: int, options: int, *names: str) -> list[Menu]:
    random = np.random.default_rng(seed)
    return [
        Menu(
            f"layer{index}",
            tuple(
                Option(f"o{k}", {name: float(random.uniform(0.1, 2)) for name in names}, float(random.exponential()))
                for k in range(options)
            ),
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_many_layers_agree_with_dynamic_programming(seed: int) -> None:
    """What is lost is nearly what is saved, so that very many plans are nearly the best (a hard kind of knapsack)."""
    random = np.random.default_rng(seed)
    menus = []
    for index in range(30):
        costs = random.choice(400, size=4, replace=False) + 1
        losses = 10 - costs / 40 + random.uniform(0, 0.02, size=4)
        options = (Option(f"{c}", {"latency": int(c)}, float(x)) for c, x in zip(costs, losses, strict=True))
        menus.append(Menu(f"layer{index}", tuple(options)))
    least = cheapest(menus, "latency").totals["latency"]
    for limit in (int(least) + 150, int(least) + 1500):
        plan = choose(menus, {"latency": limit})
        assert plan.loss == pytest.approx(by_dynamic_programming(menus, limit), rel=1e-9)
        assert plan.totals["latency"] <= limit
        assert plan.gap <= 1e-7


@pytest.mark.parametrize("costs", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("losses", [1e-9, 1.0, 1e9])
def test_units_do_not_matter(costs: float, losses: float) -> None:
    """Microseconds or bytes, points or shares: the plan is the same, the price scales."""
    menus, limits = random_menus(3, 6, 3, "latency", "size"), {"latency": 5.0, "size": 6.0}
    plan = choose(menus, limits)
    assert plan.loss == pytest.approx(least_loss(menus, limits), rel=1e-12)
    scaled = [
        Menu(
            menu.item,
            tuple(Option(o.name, {**o.costs, "size": o.costs["size"] * costs}, o.loss * losses) for o in menu.options),
        )
        for menu in menus
    ]
    again = choose(scaled, {"latency": 5.0, "size": 6.0 * costs})
    assert {item: option.name for item, option in again.picks.items()} == {
        item: option.name for item, option in plan.picks.items()
    }
    assert again.prices["size"] == pytest.approx(plan.prices["size"] * losses / costs, rel=1e-6)
    assert again.prices["latency"] == pytest.approx(plan.prices["latency"] * losses, rel=1e-6)


def test_a_large_common_part_hides_no_difference() -> None:
    options = (Option("good", {"size": 1e9 + 2}, 1e6), Option("bad", {"size": 1e9 + 1}, 1e6 + 1e-3))
    assert choose([Menu("a", options)], {"size": 1e9 + 2}).picks["a"].name == "good"
    assert choose([Menu("a", options)], {"size": 1e9 + 1.5}).picks["a"].name == "bad"


def test_small_differences_count() -> None:
    """1e-7 of the largest difference; a solver left to its own tolerances ignores ten times that."""
    menus = [
        Menu("large", (Option("good", {"ms": 1.0}, 0.0), Option("bad", {"ms": 0.0}, 1.0))),
        Menu("small", (Option("worse", {"ms": 0.0}, 2e-7), Option("better", {"ms": 0.0}, 1e-7))),
    ]
    names = {item: option.name for item, option in choose(menus, {"ms": 1.0}).picks.items()}
    assert names == {"large": "good", "small": "better"}
    assert choose(menus, {"ms": 1.0 - 1e-7}).picks["large"].name == "bad"


def test_a_limit_equal_to_the_total_of_a_plan_is_met() -> None:
    """A tenth thirty times is not three in floating point; the sums here are in another order than the solver's."""
    menus = [Menu(f"a{i}", (Option("dear", {"ms": 0.3}, 0.0), Option("cheap", {"ms": 0.1}, 1.0))) for i in range(30)]
    assert choose(menus, {"ms": 30 * 0.1}).loss == 30
    assert choose(menus, {"ms": sum([0.1] * 30)}).loss == 30
    assert choose(menus, {"ms": 30 * 0.3}).loss == 0
    negative = [Menu("a", (Option("o", {"ms": -1.0}),))]
    assert choose(negative, {"ms": -1.0}).totals == {"ms": -1.0}


def relaxed(menus: Sequence[Menu], limits: Mapping[str, float]) -> float:
    """The value of the linear relaxation, stated plainly and solved by interior points."""
    options = [(row, option) for row, menu in enumerate(menus) for option in menu.options]
    costs = [[option.costs.get(name, 0) for _, option in options] for name in limits]
    ones = [[float(row == index) for row, _ in options] for index in range(len(menus))]
    solved = linprog(
        [option.loss for _, option in options],
        costs,
        list(limits.values()),
        ones,
        [1] * len(menus),
        method="highs-ipm",
    )
    assert solved.status == 0
    return float(solved.fun)


def dual(menus: Sequence[Menu], limits: Mapping[str, float], prices: Mapping[str, float]) -> float:
    """The Lagrangian: each menu by itself, paying for what it takes. At most the relaxation, equal at its prices."""
    paid = sum(
        min(o.loss + sum(p * o.costs.get(name, 0) for name, p in prices.items()) for o in menu.options)
        for menu in menus
    )
    return paid - sum(price * limits[name] for name, price in prices.items())


@settings(max_examples=40)
@given(instances())
def test_prices_prove_the_relaxation(instance: Instance) -> None:
    menus, limits = instance
    assume(menus and limits and fitting(menus, limits))
    plan = choose(menus, limits)
    assert dual(menus, limits, plan.prices) == pytest.approx(relaxed(menus, limits), abs=1e-6)
    assert dual(menus, limits, plan.prices) <= plan.loss + 1e-6


def relaxed_by_slopes(menus: Sequence[Menu], limit: float) -> float:
    """With one limit the dual is concave and piecewise linear; it turns where two options of a menu cost the same."""
    slopes = {0.0}
    for menu in menus:
        for one, other in itertools.permutations(menu.options, 2):
            if one.costs["latency"] > other.costs["latency"]:
                slopes.add(max(0.0, (other.loss - one.loss) / (one.costs["latency"] - other.costs["latency"])))
    return max(dual(menus, {"latency": limit}, {"latency": slope}) for slope in slopes)


@pytest.mark.parametrize("seed", range(8))
def test_a_price_is_what_one_more_unit_saves(seed: int) -> None:
    menus = random_menus(seed, 8, 4, "latency")
    least = total([*cheapest(menus, "latency").picks.values()], "latency")
    for more in (0.1, 0.5, 1.5, 100.0):
        limit, step = least + more, 1e-6
        price = choose(menus, {"latency": limit}).prices["latency"]
        saved = (relaxed_by_slopes(menus, limit) - relaxed_by_slopes(menus, limit + step)) / step
        assert price == pytest.approx(saved, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_prices_of_several_limits_are_finite_differences(seed: int) -> None:
    menus = random_menus(seed, 8, 5, "latency", "size", "memory")
    free = choose(menus, {}).totals
    limits = {name: 0.85 * free[name] for name in ("latency", "size", "memory")}
    plan = choose(menus, limits)
    assert sum(price > 0 for price in plan.prices.values()) >= 2
    for name, price in plan.prices.items():
        step = 1e-4
        saved = relaxed(menus, limits) - relaxed(menus, {**limits, name: limits[name] + step})
        assert price == pytest.approx(saved / step, rel=1e-3, abs=1e-3)


@given(instances())
def test_the_cheapest_plan_has_the_least_total_then_the_least_loss(instance: Instance) -> None:
    menus, _ = instance
    plan = cheapest(menus, "latency")
    every = itertools.product(*(menu.options for menu in menus))
    least = min((total(picks, "latency"), sum(option.loss for option in picks)) for picks in every)
    assert (total([*plan.picks.values()], "latency"), plan.loss) == least
    assert plan.totals == totals(plan.picks)
    assert (plan.prices, plan.gap) == ({}, 0.0)


def test_without_limits_every_item_takes_its_best() -> None:
    plan = choose([Menu("a", (Option("x", {"ms": 1}, 2), Option("y", {"ms": 9, "B": 4}, 1)))], {})
    assert (plan.picks["a"].name, plan.loss, plan.totals, plan.prices) == ("y", 1, {"ms": 9, "B": 4}, {})


def test_a_cost_that_nobody_names_is_zero() -> None:
    plan = choose([Menu("a", (Option("x", {}, 2), Option("y", {}, 1)))], {"ms": 0})
    assert (plan.picks["a"].name, plan.totals, plan.prices) == ("y", {"ms": 0}, {"ms": 0})


def test_nothing_to_choose_costs_nothing() -> None:
    assert choose([], {"ms": 1.0}) == Plan({}, 0.0, {"ms": 0.0}, {"ms": 0.0})
    assert choose([], {}) == cheapest([], "ms") == Plan({}, 0.0, {})
    with pytest.raises(NotMet, match="the cheapest plan takes 0"):
        choose([], {"ms": -1.0})


GOOD = Menu("good", (Option("o", {"ms": 1.0}, 1.0),))


@pytest.mark.parametrize(
    ("menu", "words"),
    [
        (Menu("conv1", ()), "conv1 has no option"),
        (Menu("conv1", (Option("int8", {"ms": math.nan}, 1.0),)), "conv1: int8 has a loss or cost that is not finite"),
        (Menu("conv1", (Option("int8", {"ms": math.inf}, 1.0),)), "conv1: int8"),
        (Menu("conv1", (Option("int8", {"ms": 1.0}, -math.inf),)), "conv1: int8"),
        (GOOD, "good has two menus"),
    ],
)
def test_menus_that_make_no_sense_are_refused(menu: Menu, words: str) -> None:
    with pytest.raises(BadInput, match=f"^choose: {words}"):
        choose([GOOD, menu], {"ms": 9.0})
    with pytest.raises(BadInput, match=f"^choose: {words}"):
        cheapest([GOOD, menu], "ms")


@pytest.mark.parametrize("limit", [math.inf, -math.inf, math.nan])
def test_limits_are_finite(limit: float) -> None:
    with pytest.raises(BadInput, match=r"^choose: the limit ms<=.* is no finite number; leave it out"):
        choose([GOOD], {"ms": limit})


def arrays(menus: Sequence[Menu], names: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    losses = np.array([[option.loss for option in menu.options] for menu in menus])
    return losses, {n: np.array([[o.costs[n] for o in menu.options] for menu in menus]) for n in names}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("names", [("latency",), ("latency", "size"), ("latency", "size", "memory")])
def test_many_menus_near_the_exact_plan(seed: int, names: tuple[str, ...]) -> None:
    """By the dual alone, beside HiGHS: within its gap of the best, and prices that prove its bound."""
    menus = random_menus(seed, 300, 4, *names)
    free = choose(menus, {}).totals
    least = {name: cheapest(menus, name).totals[name] for name in names}
    limits = {name: least[name] + 0.6 * (free[name] - least[name]) for name in names}
    exact = choose(menus, limits)
    found = choose_many(*arrays(menus, names), limits)
    picks = {menu.item: menu.options[index] for menu, index in zip(menus, found.taken, strict=True)}
    assert found.loss == pytest.approx(sum(option.loss for option in picks.values()))
    assert {name: found.totals[name] for name in names} == pytest.approx({n: totals(picks)[n] for n in names})
    assert all(found.totals[name] <= limits[name] * (1 + 1e-9) for name in names)
    assert exact.loss - 1e-6 <= found.loss <= exact.loss + found.gap + 1e-6
    # As many menus are undecided in the relaxation as there are limits; each can lose all that its options differ by.
    widest = max(max(o.loss for o in menu.options) - min(o.loss for o in menu.options) for menu in menus)
    assert found.gap <= len(names) * widest
    assert dual(menus, limits, found.prices) == pytest.approx(found.loss - found.gap, rel=1e-5)


def test_so_many_options_are_chosen_by_the_dual(monkeypatch: pytest.MonkeyPatch) -> None:
    menus = [*random_menus(1, 40, 4, "latency"), Menu("short", (Option("only", {"latency": 1.0}, 3.0),))]
    limit = {"latency": cheapest(menus, "latency").totals["latency"] * 1.3}
    exact = choose(menus, limit)
    monkeypatch.setattr("shoestring.core.choose.EXACT", 100)
    found = choose(menus, limit)
    assert found.gap > 0 or found.loss == pytest.approx(exact.loss)
    assert exact.loss <= found.loss + 1e-9 <= exact.loss + found.gap + 2e-9
    assert found.picks["short"].name == "only"
    assert found.totals["latency"] <= limit["latency"]


@pytest.mark.parametrize(
    ("losses", "costs", "limits", "message"),
    [
        ([1.0, 2.0], {}, {}, "losses are numbers"),
        ([[math.nan, 1.0]], {}, {}, "losses are numbers"),
        ([[math.inf, math.inf]], {}, {}, "a finite one in every menu"),
        ([[1.0, 2.0]], {"ms": [[1.0]]}, {"ms": 1.0}, "costs of ms are finite numbers"),
        ([[1.0, 2.0]], {"ms": [[1.0, math.nan]]}, {"ms": 1.0}, "costs of ms are finite numbers"),
        ([[1.0, 2.0]], {"ms": [[1.0, 1.0]]}, {"ms": math.inf}, "its limit is one"),
    ],
)
def test_arrays_that_do_not_fit(losses, costs, limits, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose_many(losses, costs, limits)


def test_many_menus_that_cannot_fit_together() -> None:
    rng = np.random.default_rng(0)
    quick = rng.uniform(0, 1, (5000, 1))
    costs = {"ms": np.hstack([quick, 1 + quick]), "bytes": np.hstack([1 + quick, quick])}
    with pytest.raises(NotMet, match=r"^no plan meets ms<=.*, bytes<=.* together$"):
        choose_many(rng.random((5000, 2)), costs, {"ms": 3200.0, "bytes": 3200.0})
