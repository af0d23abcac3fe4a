"""Allotment: what share of its weights each layer loses when all together are to take a stated time."""

from collections.abc import Mapping, Sequence

import numpy as np

from shoestring.core.choose import choose
from shoestring.core.cost import Cost
from shoestring.core.plan import Menu, Option

# Per cent of a layer among which is chosen.
LEVELS = (0, *range(10, 96, 5))


def allot(
    norms: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray], percent: float, costs: Mapping[str, Cost]
) -> dict[str, float]:
    """Per cent that each layer loses, so that all together take no more than the measured milliseconds they would if
    each lost `percent`, and the least is lost: the sum over layers of the share of squared weight that goes. `norms`,
    `sizes`: of every block, by layer, in one shape."""
    levels = levels_with(percent)
    losses = {name: dict(zip(levels, lost(norms[name], sizes[name], levels), strict=True)) for name in norms}
    return share_out(losses, percent, costs)


def share_out(
    losses: Mapping[str, Mapping[float, float]], percent: float, costs: Mapping[str, Cost]
) -> dict[str, float]:
    """Per cent that each layer loses, so that all together cost no more than if each lost `percent`, and the sum of
    `losses` (by layer, of each per cent that it may lose, `percent` among them) is least."""
    menus = []
    for name, own in losses.items():
        options = (Option(str(level), {"cost": costs[name].at(level / 100)}, loss) for level, loss in own.items())
        menus.append(Menu(name, tuple(options)))
    limit = sum(costs[name].at(percent / 100) for name in losses)
    return {name: float(option.name) for name, option in choose(menus, {"cost": limit}).picks.items()}


def levels_with(percent: float) -> list[float]:
    """The shares among which is chosen, per cent, `percent` among them."""
    return sorted({*LEVELS, percent})


def lost(norms: np.ndarray, sizes: np.ndarray, levels: Sequence[float]) -> list[float]:
    """The share of squared weight that goes with the smallest blocks, for each of `levels` per cent of the weights."""
    order = np.argsort(norms, axis=None, kind="stable")
    ends = np.searchsorted(np.cumsum(sizes.ravel()[order]), np.array(levels) * sizes.sum() / 100, side="right")
    squares = np.concatenate([[0.0], np.cumsum(np.square(norms.ravel()[order], dtype=np.float64))])
    return [float(gone) for gone in squares[ends] / max(squares[-1], np.finfo(float).tiny)]
