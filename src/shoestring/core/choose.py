"""The one solver: from each menu exactly one option, least total loss under linear limits.

The multiple-choice knapsack, solved exactly as a 0/1 programme by HiGHS (branch and cut); with more than EXACT options,
or as arrays, by its Lagrangian dual (`core.lagrange`) with the gap that is left. Shadow prices are the duals of the
linear relaxation: what one more unit of a limit would save in loss.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shoestring.core.errors import BadInput, NotMet
from shoestring.core.lagrange import Table, solve
from shoestring.core.plan import Menu, Option, Picks, Plan

EXACT = 20_000  # options in all, up to which a plan is proven to be the best
# HiGHS is content within 1e-6 of a limit and of the least loss. The largest difference within a menu is scaled to this,
# so that 1e-8 of it counts; with more, HiGHS begins to complain about its own rounding.
_SCALE = 1e2


@dataclass(frozen=True)
class _Problem:
    """The options of all menus in one row of n. As exactly one of each menu is taken, only differences within a menu
    count: the least of the menu is taken off, and every line is divided by its unit. `losses`: [n]; `costs`:
    [limits, n]; `room`: [limits] above the least total; `sizes`: [menus] options; `units`: [1 + limits], of the losses
    first."""

    losses: np.ndarray
    costs: np.ndarray
    room: np.ndarray
    sizes: np.ndarray
    units: np.ndarray


def choose(menus: Sequence[Menu], limits: Mapping[str, float]) -> Plan:
    """`limits`: upper bound of the total of each cost, in the unit of the options' costs. An option that does not
    name a cost does not have it. A limit may be exceeded by 1e-8 of the largest difference of cost within a menu.

    Raises BadInput for an empty menu, two menus of one item, and numbers that are not finite; NotMet when no
    combination fits, with limits that would do."""
    _check(menus, limits)
    for name, limit in limits.items():
        least = sum(min(option.costs.get(name, 0.0) for option in menu.options) for menu in menus)
        if least > limit + 1e-12 * abs(limit):
            raise NotMet(f"{name}<={limit:.4g} cannot be met: the cheapest plan takes {least:.4g}")
    if sum(len(menu.options) for menu in menus) > EXACT:
        return _choose_large(menus, limits)
    nothing = dict.fromkeys(limits, 0.0)
    if not menus:
        return Plan({}, 0.0, nothing, nothing)
    problem = _problem(menus, limits)
    solved = _solve(problem)
    if solved.x is None:
        raise NotMet(f"{_together(limits)}; {_would_do(menus, limits)}")
    taken = [int(block.argmax()) for block in np.split(solved.x, np.cumsum(problem.sizes)[:-1])]
    picks = {menu.item: menu.options[index] for menu, index in zip(menus, taken, strict=True)}
    return Plan(
        picks,
        loss=sum(option.loss for option in picks.values()),
        totals={**nothing, **totals(picks)},
        prices=dict(zip(limits, _prices(problem), strict=True)),
        gap=max(0.0, float(solved.fun - solved.mip_dual_bound)) * float(problem.units[0]),
    )


def choose_many(losses: ArrayLike, costs: Mapping[str, ArrayLike], limits: Mapping[str, float]) -> Picks:
    """`choose` for menus in arrays, a million of them in seconds: `losses` and each of `costs` are [menus, options];
    where a menu has fewer options, the loss of the others is infinite. A limit whose costs are not given is free.

    Raises BadInput for arrays that do not fit each other and numbers that are not finite; NotMet when no plan was found
    that fits."""
    table, units, off = _table(losses, costs, limits)
    found = solve(table)
    if found.plan is None:
        hopeless = math.isinf(found.bound)
        raise NotMet(f"{_together(limits)}" if hopeless else f"no plan was found for {_written(limits)}, nor ruled out")
    return Picks(
        taken=found.plan.taken,
        loss=found.plan.loss * float(units[0]) + float(off[0]),
        totals=dict(zip(limits, (found.plan.totals * units[1:] + off[1:]).tolist(), strict=True)),
        prices=dict(zip(limits, (found.prices * units[0] / units[1:]).tolist(), strict=True)),
        gap=max(0.0, found.plan.loss - found.bound) * float(units[0]),
    )


def totals(picks: Mapping[str, Option]) -> dict[str, float]:
    """Sum of every cost over the picks."""
    names = dict.fromkeys(name for option in picks.values() for name in option.costs)
    return {name: sum(option.costs.get(name, 0.0) for option in picks.values()) for name in names}


def cheapest(menus: Sequence[Menu], cost: str) -> Plan:
    """The plan with the least total of one cost (ties go to the smaller loss): how far a limit can be pushed. Raises
    BadInput as `choose` does."""
    _check(menus, {})
    picks = {menu.item: min(menu.options, key=lambda o: (o.costs.get(cost, 0.0), o.loss)) for menu in menus}
    return Plan(picks, sum(option.loss for option in picks.values()), totals(picks))


def _choose_large(menus: Sequence[Menu], limits: Mapping[str, float]) -> Plan:
    most = max(len(menu.options) for menu in menus)
    losses = np.full((len(menus), most), np.inf)
    costs = {name: np.zeros((len(menus), most)) for name in limits}
    for row, menu in enumerate(menus):
        losses[row, : len(menu.options)] = [option.loss for option in menu.options]
        for name, column in costs.items():
            column[row, : len(menu.options)] = [option.costs.get(name, 0.0) for option in menu.options]
    found = choose_many(losses, costs, limits)
    picks = {menu.item: menu.options[index] for menu, index in zip(menus, found.taken.tolist(), strict=True)}
    everything = {**dict.fromkeys(limits, 0.0), **totals(picks)}
    return Plan(picks, sum(option.loss for option in picks.values()), everything, found.prices, found.gap)


def _table(
    losses: ArrayLike, costs: Mapping[str, ArrayLike], limits: Mapping[str, float]
) -> tuple[Table, np.ndarray, np.ndarray]:
    """As `_problem`: differences within a menu, by unit. Then the units and what was taken off, [1 + limits] each, of
    the losses first."""
    lines = [np.array(losses, float)]
    shape, there = lines[0].shape, np.isfinite(lines[0])
    if len(shape) != 2 or not lines[0].size or np.isnan(lines[0]).any() or not np.isfinite(lines[0].min(axis=1)).all():
        raise BadInput("choose: losses are numbers [menus, options], a finite one in every menu; correct them")
    for name, limit in limits.items():
        line = np.array(costs.get(name, np.zeros(shape)), float)
        if line.shape != shape or not np.isfinite(line[there]).all() or not math.isfinite(limit):
            raise BadInput(f"choose: costs of {name} are finite numbers {list(shape)}, its limit is one; correct them")
        lines.append(line)
    units, off = [], []
    for line in lines:
        least = np.where(there, line, np.inf).min(axis=1)
        line -= least[:, None]
        line[~there] = np.inf if line is lines[0] else 0.0
        units.append(float(line[there].max()) or 1.0)
        off.append(float(least.sum()))
    scaled = [np.ascontiguousarray((line / unit).T) for line, unit in zip(lines, units, strict=True)]
    room = (np.array(list(limits.values()), float) - off[1:]) / units[1:]
    stacked = np.array(scaled[1:]).reshape(len(limits), *scaled[0].shape)
    return Table(scaled[0], stacked, room), np.array(units), np.array(off)


def _written(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{name}<={limit:.4g}" for name, limit in limits.items())


def _together(limits: Mapping[str, float]) -> str:
    return f"no plan meets {_written(limits)} together"


def _would_do(menus: Sequence[Menu], limits: Mapping[str, float]) -> str:
    """For each limit what it would have to be, the others as they are."""
    told = []
    for name in limits:
        others = {other: limit for other, limit in limits.items() if other != name}
        priced = [
            Menu(menu.item, tuple(replace(option, loss=option.costs.get(name, 0.0)) for option in menu.options))
            for menu in menus
        ]
        with contextlib.suppress(NotMet):
            told.append(f"{name}<={up(choose(priced, others).loss)}")
    return f"one of these would do: {', '.join(told)}" if told else "more than one of them must give way"


def up(number: float) -> str:
    """Four digits, not below the number."""
    shown = f"{number:.4g}"
    if float(shown) >= number or not number:
        return shown
    step = 10 ** (math.floor(math.log10(abs(number))) - 3)
    return f"{math.ceil(number / step) * step:.4g}"


def _check(menus: Sequence[Menu], limits: Mapping[str, float]) -> None:
    for name, limit in limits.items():
        if not math.isfinite(limit):
            raise BadInput(f"choose: the limit {name}<={limit} is no finite number; leave it out to leave it unlimited")
    for menu in menus:
        if not menu.options:
            raise BadInput(f"choose: {menu.item} has no option; every item needs at least one")
        for option in menu.options:
            if not all(map(math.isfinite, (option.loss, *option.costs.values()))):
                raise BadInput(
                    f"choose: {menu.item}: {option.name} has a loss or cost that is not finite; leave it out"
                )
    items = [menu.item for menu in menus]
    if len(set(items)) < len(items):
        twice = next(item for item in items if items.count(item) > 1)
        raise BadInput(f"choose: {twice} has two menus; put all its options into one")


def _problem(menus: Sequence[Menu], limits: Mapping[str, float]) -> _Problem:
    options = [option for menu in menus for option in menu.options]
    costs = [[option.costs.get(name, 0.0) for option in options] for name in limits]
    lines = np.array([[option.loss for option in options], *costs], float)
    sizes = np.array([len(menu.options) for menu in menus])
    least = np.minimum.reduceat(lines, np.cumsum(sizes) - sizes, axis=1)
    lines -= least.repeat(sizes, axis=1)
    largest = lines.max(axis=1)
    units = np.where(largest > 0, largest / _SCALE, 1.0)
    lines /= units[:, None]
    room = (np.array(list(limits.values()), float) - least[1:].sum(axis=1)) / units[1:]
    return _Problem(lines[0], lines[1:], np.maximum(room, 0.0), sizes, units)


def _one_of_each(problem: _Problem) -> Any:
    """Sparse [menus, n]: the options of each menu."""
    from scipy.sparse import csr_array  # scipy comes with the `fit` extra, core without it

    n = len(problem.losses)
    return csr_array((np.ones(n), np.arange(n), np.concatenate([[0], np.cumsum(problem.sizes)])))


def _solve(problem: _Problem) -> Any:
    """What scipy.optimize.milp returns."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # as above

    constraints = [LinearConstraint(_one_of_each(problem), 1, 1)]
    if len(problem.room):
        constraints.append(LinearConstraint(problem.costs, -np.inf, problem.room))
    whole = np.ones(len(problem.losses))
    options = {"mip_rel_gap": 0.0}
    return milp(problem.losses, constraints=constraints, integrality=whole, bounds=Bounds(0, 1), options=options)


def _prices(problem: _Problem) -> list[float]:
    """Of each limit, in loss by unit of its cost."""
    from scipy.optimize import linprog  # as above

    if not len(problem.room):
        return []
    ones = np.ones(len(problem.sizes))
    relaxed = linprog(problem.losses, problem.costs, problem.room, _one_of_each(problem), ones, (0, 1), method="highs")
    return [max(0.0, -float(dual)) for dual in relaxed.ineqlin.marginals * problem.units[0] / problem.units[1:]]
