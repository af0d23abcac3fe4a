"""The one solver: from each menu exactly one option, least total loss under linear limits.

The multiple-choice knapsack, solved exactly as a 0/1 programme by HiGHS (branch and cut). Shadow prices are the duals of
its linear relaxation: what one more unit of a limit would save in loss.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shoestring.core.errors import BadInput, NotMet
from shoestring.core.plan import Menu, Option, Plan


def choose(menus: Sequence[Menu], limits: Mapping[str, float]) -> Plan:
    """`limits`: upper bound of the total of each cost, in the unit of the options' costs. An option that does not
    name a cost does not have it. Raises BadInput for an empty menu and NotMet when no combination fits, with the
    least total that each limit could have."""
    for menu in menus:
        if not menu.options:
            raise BadInput(f"choose: {menu.item} has no option; every item needs at least one")
    losses, costs = _arrays(menus, limits)
    for row, (name, limit) in enumerate(limits.items()):
        least = sum(float(block.min()) for block in np.split(costs[row], _starts(menus)[1:]))
        if least > limit * (1 + 1e-12):
            raise NotMet(f"{name}<={limit:.4g} cannot be met: the cheapest plan takes {least:.4g}")
    if not menus:
        return Plan({}, 0.0, dict.fromkeys(limits, 0.0), dict.fromkeys(limits, 0.0))
    taken, gap = _solve(menus, losses, costs, limits)
    picks = {menu.item: menu.options[index] for menu, index in zip(menus, taken, strict=True)}
    return Plan(picks, sum(o.loss for o in picks.values()), totals(picks), _prices(menus, losses, costs, limits), gap)


def totals(picks: Mapping[str, Option]) -> dict[str, float]:
    """Sum of every cost over the picks."""
    names = dict.fromkeys(name for option in picks.values() for name in option.costs)
    return {name: sum(option.costs.get(name, 0.0) for option in picks.values()) for name in names}


def cheapest(menus: Sequence[Menu], cost: str) -> Plan:
    """The plan with the least total of one cost (ties go to the smaller loss): how far a limit can be pushed."""
    picks = {menu.item: min(menu.options, key=lambda o: (o.costs.get(cost, 0.0), o.loss)) for menu in menus}
    return Plan(picks, sum(option.loss for option in picks.values()), totals(picks))


def _arrays(menus: Sequence[Menu], limits: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Losses [n] and costs [limits, n] of all options in one row."""
    options = [option for menu in menus for option in menu.options]
    losses = np.array([option.loss for option in options], float)
    costs = np.array([[option.costs.get(name, 0.0) for option in options] for name in limits], float)
    return losses, costs.reshape(len(limits), len(options))


def _starts(menus: Sequence[Menu]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(menu.options) for menu in menus])[:-1]]).astype(int)


def _one_of_each(menus: Sequence[Menu]) -> np.ndarray:
    rows = np.repeat(np.arange(len(menus)), [len(menu.options) for menu in menus])
    return (rows[None, :] == np.arange(len(menus))[:, None]).astype(float)


def _solve(
    menus: Sequence[Menu], losses: np.ndarray, costs: np.ndarray, limits: Mapping[str, float]
) -> tuple[list[int], float]:
    """Index of the option taken in each menu, and the proven gap in loss."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # scipy comes with the `fit` extra, core without it

    constraints = [LinearConstraint(_one_of_each(menus), 1, 1)]
    if limits:
        constraints.append(LinearConstraint(costs, -np.inf, list(limits.values())))
    solved = milp(losses, constraints=constraints, integrality=np.ones(len(losses)), bounds=Bounds(0, 1))
    if solved.x is None:
        raise NotMet(f"no plan meets {', '.join(f'{k}<={v:.4g}' for k, v in limits.items())} together")
    taken = [int(np.argmax(block)) for block in np.split(solved.x, _starts(menus)[1:])]
    return taken, max(0.0, float(solved.fun - solved.mip_dual_bound))


def _prices(
    menus: Sequence[Menu], losses: np.ndarray, costs: np.ndarray, limits: Mapping[str, float]
) -> dict[str, float]:
    from scipy.optimize import linprog

    if not limits:
        return {}
    ones = _one_of_each(menus)
    relaxed = linprog(losses, costs, list(limits.values()), ones, np.ones(len(menus)), bounds=(0, 1), method="highs")
    return {name: max(0.0, -float(dual)) for name, dual in zip(limits, relaxed.ineqlin.marginals, strict=True)}
