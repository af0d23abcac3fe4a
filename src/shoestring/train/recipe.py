"""Recipe: how long and how hard to train, checked when it is written down."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shoestring.core.errors import BadInput

# By name, with what it is run with where nobody says otherwise, as far as that is not what a Recipe has.
OPTIMISERS: Mapping[str, Mapping[str, float]] = {"sgd": {}, "adamw": {"lr": 0.002, "weight_decay": 0.05}}


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum, or AdamW; the rate rises linearly, then falls as a cosine, step by step.

    `epochs`: passes over the data, above 0; 0.25 is a quarter of one. `batch`: inputs a step, over all processes.
    `lr`: the highest learning rate. `weight_decay`: of weights; vectors never decay (`train.groups`). `warmup`: share
    of the run in which the rate rises. `frozen`: last share of the run, trained with grids and masks fixed. `ema`:
    decay per step of the averaged weights that training returns, 0 for none. `norms`: whether batch norms learn
    statistics from the batches; False keeps those they have and normalises by them, which suits a few hundred inputs.
    `distil`: the teacher's part of the loss, 1 for the teacher alone, 0 for labels alone; without a teacher labels are
    all there is. `temperature`: of both soft maxima. `features`: names of modules whose outputs follow the teacher's,
    with `feature_weight` times their loss. `seed`: of what training draws (dropout). `optimiser`: sgd, or adamw
    (Loshchilov and Hutter 2019, arXiv 1711.05101), whose first beta is `momentum`. Raises BadInput for a value out of
    range.
    """

    epochs: float
    batch: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.05
    frozen: float = 0.2
    ema: float = 0.999
    norms: bool = True
    distil: float = 1.0
    temperature: float = 4.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    seed: int = 0
    optimiser: str = "sgd"

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise BadInput(f"optimiser: {self.optimiser!r} is not known; write one of {', '.join(OPTIMISERS)}")
        for name in ("batch", "seed"):
            if not isinstance(getattr(self, name), int):
                raise BadInput(f"{name}: {getattr(self, name)!r} is not a whole number; write one")
        for name in ("epochs", "lr", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInput(f"{name}: {getattr(self, name)} does not do; give a number above 0")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"{name}: {getattr(self, name)} is out of range; give {low:g} to {high:g}")

    def steps(self, per_epoch: int) -> int:
        """Optimiser steps of the whole run, at least one."""
        return max(1, round(self.epochs * per_epoch))

    def freezes(self, total: int) -> int:
        """The step of `total` before which grids and masks are fixed; `total` (after the last) when `frozen` is 0."""
        return total - math.ceil(self.frozen * total)

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step (0 is the first) of `total`: linear to `lr` over the warm-up, then a cosine that
        would reach 0 at step `total` (Loshchilov and Hutter 2017, eq. 5, one cycle)."""
        rising = round(self.warmup * total)
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        return self.lr * (1 + math.cos(math.pi * (step - rising) / (total - rising))) / 2


def suited(epochs: float, optimiser: str = "sgd", **asked: Any) -> Recipe:
    """A recipe of what is `asked`, a field each; the rest is as suits the optimiser. Raises BadInput."""
    return Recipe(epochs, optimiser=optimiser, **{**OPTIMISERS.get(optimiser, {}), **asked})


_RANGES = {
    "batch": (1, 2**20),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "warmup": (0, 0.9),
    "frozen": (0, 1),
    "ema": (0, 0.99999),
    "distil": (0, 1),
    "feature_weight": (0, 1e6),
    "seed": (0, 2**63),
}
