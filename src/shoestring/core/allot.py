"""Allotment: what share of its weights each layer loses when all together are to take a stated time."""

from collections.abc import Mapping, Sequence

import numpy as np

from shoestring.core.choose import choose
from shoestring.core.cost import Cost
from shoestring.core.plan import Menu, Option

# Per cent of a layer among which is chosen.
_LEVELS = (0, *range(10, 96, 5))


def allot(
    norms: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray], percent: float, costs: Mapping[str, Cost]
) -> dict[str, float]:
    """Per cent that each layer loses, so that all together take no more than the measured milliseconds they would if
    each lost `percent`, and the least is lost: the sum over layers of the share of squared weight that goes. `norms`,
    `sizes`: of every block, by layer, in one shape."""
    levels = sorted({*_LEVELS, percent})
    menus = []
    for name in norms:
        each = zip(levels, lost(norms[name], sizes[name], levels), strict=True)
        options = (Option(str(level), {"ms": costs[name].at(level / 100)}, loss) for level, loss in each)
        menus.append(Menu(name, tuple(options)))
    limit = sum(costs[name].at(percent / 100) for name in norms)
    return {name: float(option.name) for name, option in choose(menus, {"ms": limit}).picks.items()}


def lost(norms: np.ndarray, sizes: np.ndarray, levels: Sequence[float]) -> list[float]:
    """The share of squared weight that goes with the smallest blocks, for each of `levels` per cent of the weights."""
    order = np.argsort(norms, axis=None, kind="stable")
    ends = np.searchsorted(np.cumsum(sizes.ravel()[order]), np.array(levels) * sizes.sum() / 100, side="right")
    squares = np.concatenate([[0.0], np.cumsum(np.square(norms.ravel()[order], dtype=np.float64))])
    return [float(gone) for gone in squares[ends] / max(squares[-1], np.finfo(float).tiny)]
