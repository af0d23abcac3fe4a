"""Option, Menu, Plan: what `choose` takes and gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Option:
    """One way to do one thing. `costs`: amount per limit (`{"latency": 0.12}`, in the limit's base unit);
    `loss`: what it takes from the result, to be minimised."""

    name: str
    costs: Mapping[str, float]
    loss: float = 0.0


@dataclass(frozen=True)
class Menu:
    """The options of one item, of which exactly one is taken."""

    item: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Plan:
    """One option per item. `totals`: sum per cost. `prices`: loss saved by one more unit of each limit (>= 0).
    `gap`: proven distance to the optimum, in loss."""

    picks: Mapping[str, Option]
    loss: float
    totals: Mapping[str, float]
    prices: Mapping[str, float] = field(default_factory=dict)
    gap: float = 0.0


@dataclass(frozen=True)
class Picks:
    """A plan of menus in arrays. `taken`: [menus], the option of each; the rest as a Plan's."""

    taken: np.ndarray
    loss: float
    totals: Mapping[str, float]
    prices: Mapping[str, float]
    gap: float
