"""Large problems: the multiple-choice knapsack by its Lagrangian dual, with a proven distance to the optimum.

At prices p of the limits every menu takes its option of least loss + p * cost, all menus at once; the sum of what they
pay, less p * limits, is a lower bound of every plan's loss (Fisher, The Lagrangian Relaxation Method, 1981). The best
prices are found by cutting planes: each bound that was computed is a tangent of a concave function, and the next prices
are where the tangents so far meet highest. The best bound is that of the linear relaxation, in which only as many menus
are undecided as there are limits; so a plan near it is found by raising the prices a little, and spending what is left.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROUNDS = 80  # of prices, at most
ENOUGH = 1e-7  # between two bounds, as a share of the range of losses
CLOSE = 1e-6  # of a plan to the bound, as such a share: no better one is looked for
_CHUNK = 2**14  # menus at once: what stays in a processor's cache
_SAMPLE = 2**14  # menus from which prices start, where there are four times as many
_RAISED = tuple(np.geomspace(1e-6, 1e3, 46))  # by these shares prices are raised until a plan fits
_TRIED = 12  # such plans, of which the best is taken
_NEAR = 0.05  # of prices: how far those of a sample may be from those of all
_SPARE = 2**16  # changes that are looked at to spend what is left


@dataclass(frozen=True)
class Picked:
    """`taken`: [menus] indices of options; `loss`: their sum; `totals`: [limits]."""

    taken: np.ndarray
    loss: float
    totals: np.ndarray


@dataclass(frozen=True)
class Table:
    """`losses`: [options, menus]; `costs`: [limits, options, menus]; `limits`: [limits]. A menu with fewer options than
    others has infinite losses, and no costs, in their place."""

    losses: np.ndarray
    costs: np.ndarray
    limits: np.ndarray

    @property
    def menus(self) -> int:
        return int(self.losses.shape[1])

    def paid(self, prices: np.ndarray, part: slice) -> np.ndarray:
        """Loss and price of every option of some menus, [options, part]."""
        found = self.losses[:, part].copy()
        for price, costs in zip(prices, self.costs, strict=True):
            found += price * costs[:, part]
        return found

    def best(self, prices: np.ndarray) -> Picked:
        """What all menus take at these prices, the first of equals."""
        taken = np.concatenate([self.paid(prices, part).argmin(axis=0) for part in self.parts()])
        return self.picked(taken)

    def picked(self, taken: np.ndarray) -> Picked:
        """What it comes to when menus take these options."""
        menus = np.arange(self.menus)
        return Picked(taken, float(self.losses[taken, menus].sum()), self.costs[:, taken, menus].sum(axis=1))

    def parts(self) -> Iterator[slice]:
        for start in range(0, self.menus, _CHUNK):
            yield slice(start, start + _CHUNK)

    def sampled(self) -> "Table":
        """A part of the menus, with as much of the limits for each."""
        chosen = np.random.default_rng(0).choice(self.menus, _SAMPLE, replace=False)
        return Table(self.losses[:, chosen], self.costs[:, :, chosen], self.limits * (_SAMPLE / self.menus))


@dataclass(frozen=True)
class Found:
    """`plan`: None when none was found; `bound`: no plan has a smaller loss; infinite when there is no plan; `prices`:
    at which the bound was reached."""

    plan: Picked | None
    bound: float
    prices: np.ndarray


def solve(table: Table) -> Found:
    """The bound, and a plan near it. Costs and losses are best about as large as 1 (`choose` divides them)."""
    finite = np.where(np.isfinite(table.losses), table.losses, -np.inf)
    most = float(finite.max(axis=0).sum())  # no plan loses more
    least = float(table.losses.min(axis=0).sum())
    if not len(table.limits):
        plan = table.best(np.zeros(0))
        return Found(plan, plan.loss, np.zeros(0))
    typical = _typical(table)
    low, high = np.zeros(len(typical)), 4 * typical
    if table.menus >= 4 * _SAMPLE:
        share = _SAMPLE / table.menus
        near = _ascend(table.sampled(), low, high, share * most, share * (most - least)).prices
        low, high = (1 - _NEAR) * near, (1 + _NEAR) * near + _NEAR**2 * typical
    found = _ascend(table, low, high, most, most - least)
    if found.bound > most + ENOUGH * (most - least):
        return Found(None, np.inf, found.prices)
    best: Picked | None = None
    for plan in itertools.chain([found.plan] if found.plan else [], _raised(table, found.prices)):
        better = _spent(table, plan, found.prices)
        best = better if best is None or better.loss < best.loss else best
        if best.loss - found.bound <= CLOSE * (most - least):
            break
    return Found(best, found.bound, found.prices)


def _ascend(table: Table, low: np.ndarray, high: np.ndarray, most: float, scale: float) -> Found:
    """The best prices, looked for between `low` and `high` first, and the best plan that fits among those that were met
    on the way. Stops above `most`: then there is no plan."""
    bound, prices, plan = -np.inf, low, None
    slopes: list[np.ndarray] = []
    heights: list[float] = []  # of the tangents at prices of zero
    at = (low + high) / 2 if low.any() else low
    for _ in range(ROUNDS):
        met = table.best(at)
        slope = met.totals - table.limits
        slopes.append(slope)
        heights.append(met.loss)
        if (height := met.loss + float(at @ slope)) > bound:
            bound, prices = height, at
        if (slope <= 0).all() and (plan is None or met.loss < plan.loss):
            plan = met
        if bound > most + ENOUGH * scale:
            break
        at, top = _highest(np.array(slopes), np.array(heights), low, high)
        least, largest = at <= low + 1e-9 * (high - low), at >= high - 1e-9 * (high - low)
        if top - bound <= ENOUGH * max(scale, 1e-300) and not (least & (low > 0)).any() and not largest.any():
            break
        low, high = np.where(least, np.where(low > 0.1 * high, low / 2, 0), low), np.where(largest, 2 * high, high)
    return Found(plan, bound, prices)


def _typical(table: Table) -> np.ndarray:
    """The price at which a limit's costs weigh as much as the losses do, [limits]."""
    part = slice(0, _SAMPLE)
    losses = table.losses[:, part]
    spread = np.ptp(np.where(np.isfinite(losses), losses, losses.min(axis=0)), axis=0).mean()
    costs = np.ptp(table.costs[:, :, part], axis=1).mean(axis=1)
    return np.asarray(max(spread, 1e-12) / np.maximum(costs, 1e-12))


def _highest(slopes: np.ndarray, heights: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, float]:
    """Where the lowest of the tangents is highest between `low` and `high`, and how high that is."""
    from scipy.optimize import linprog  # scipy comes with the `fit` extra, core without it

    reach, at_low = high - low, heights + slopes @ low
    middle = at_low.max()
    unit = max(float(np.ptp(at_low)), float((np.abs(slopes) * reach).max()), 1e-300)  # HiGHS is exact to 1e-7
    lines = np.column_stack([-slopes * reach / unit, np.ones(len(heights))])
    objective, bounds = np.append(np.zeros(len(reach)), -1.0), [*[(0, 1)] * len(reach), (None, None)]
    solved = linprog(objective, lines, (at_low - middle) / unit, bounds=bounds, method="highs")
    return low + solved.x[:-1] * reach, float(solved.x[-1]) * unit + middle


def _raised(table: Table, prices: np.ndarray) -> Iterator[Picked]:
    """Plans at prices that are raised until they fit: of all limits alike, and of those that are exceeded."""
    step = np.maximum(prices, 1e-3 * _typical(table))
    found = 0
    for share in _RAISED:
        at, alike = prices + share * step, table.best(prices + share * step)
        for _ in range(4):
            over = alike.totals > table.limits
            if not over.any():
                yield alike
                found += 1
                break
            at = np.where(over, at + share * step, at)
            alike = table.best(at)
        if found >= _TRIED:
            return


def _spent(table: Table, plan: Picked, prices: np.ndarray) -> Picked:
    """`plan` with what is left of the limits spent on the changes that save most for it."""
    taken = plan.taken.copy()
    menus = np.arange(table.menus)
    for _ in range(3):
        now = table.picked(taken)
        left = table.limits - now.totals
        saved = table.losses[taken, menus] - table.losses  # [options, menus]
        paid = np.zeros_like(saved)
        for price, costs in zip(prices, table.costs, strict=True):
            paid += price * (costs - costs[taken, menus])
        lost = np.where(saved > 0, paid - saved, np.inf)  # of the Lagrangian; the best change of each menu
        option = lost.argmin(axis=0)
        lost, gain = lost[option, menus], saved[option, menus]
        able = np.flatnonzero(np.isfinite(lost) & (gain > 0))
        if not len(able):
            break
        order = able[np.argsort(lost[able] / gain[able], kind="stable")][:_SPARE]
        change = table.costs[:, option[order], order] - table.costs[:, taken[order], order]
        chosen = _fitting(change, left)
        if not chosen.any():
            break
        taken[order[chosen]] = option[order[chosen]]
    return table.picked(taken)


def _fitting(change: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which of the changes [limits, n], taken in their order, fit into what is left: bool [n]."""
    chosen = np.zeros(change.shape[1], bool)
    for index in range(change.shape[1]):
        if (change[:, index] <= left).all():
            left = left - change[:, index]
            chosen[index] = True
        if index > 4096 and not chosen[index - 4096 : index].any():
            break  # nothing has fitted for long
    return chosen
