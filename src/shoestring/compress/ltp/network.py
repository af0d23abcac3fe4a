"""A captured network whose layers learn their thresholds: made, steered to what was asked for, fixed, and baked."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from shoestring.compress.ltp.settings import Ltp
from shoestring.compress.ltp.thresholds import Pressure, Threshold
from shoestring.compress.method import Applied
from shoestring.core.allot import allot
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.graph.masks import factors, groups_of, layer_at, norms
from shoestring.graph.parametrized import WEIGHT, before, plain, put_first

RAMP = 0.4  # the share of the run after which the cost is to be what was asked for
_LOOKS = 200  # at where thresholds are, a run
_MOST_PUSH = 5.0
_HIGHEST = 1e12  # level
_TINY = torch.finfo(torch.float32).tiny
_HALVINGS = 40  # of the search for a level


@dataclass
class Thresholded(Applied):
    """`settings`, `thresholds`: by module path. `normed`: paths with a batch norm behind them."""

    settings: Mapping[str, Ltp] = field(default_factory=dict)
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    pressure: Pressure = field(default_factory=Pressure)
    normed: frozenset[str] = frozenset()
    frozen: bool = False
    _tick: int = 0

    def price(self, costs: Mapping[str, Cost]) -> None:
        """The penalty in parts of the milliseconds that all layers take when they are dense."""
        missing = [path for path in self.thresholds if path not in costs]
        if missing:
            raise BadInput(f"{self._name}: zeros of {missing[0]} were not timed")
        total = sum(costs[path].ms[0] for path in self.thresholds)
        for path, threshold in self.thresholds.items():
            threshold.cost = Cost(costs[path].zeros, tuple(ms / total for ms in costs[path].ms))
        self.begin()

    def begin(self) -> None:
        """Starts the thresholds where the layers together lose least of their squared weights at the cost that is to be
        met; layers with shares of their own, each at its own."""
        if not self.steered:
            return
        together: dict[Ltp, dict[str, tuple[Threshold, Tensor]]] = {}
        for (path, setting), pair in zip(self.settings.items(), self._pairs(), strict=True):
            together.setdefault(setting, {})[path] = pair
        for setting, pairs in together.items():
            norms = {path: t.energies(weight).sqrt().cpu().numpy() for path, (t, weight) in pairs.items()}
            sizes = {path: t.sizes.cpu().numpy() for path, (t, _) in pairs.items()}
            costs = {path: t.cost for path, (t, _) in pairs.items()}
            percents = allot(norms, sizes, setting.blocks.percent, costs)
            for path, (threshold, weight) in pairs.items():
                threshold.begin(weight, percents[path] / 100)

    def penalty(self) -> Tensor | float:
        """What the user's lambda makes of the cost that is left, 0..1. By a threshold its gradient is what a rise
        saves; divided by that, as all gradients of thresholds are, it is the same for all, and written down like that:
        it moves thresholds that no block is near, too. 0 where a cost is to be met: the level sees to that."""
        push = self.pressure.push
        if self.frozen or not push:
            return 0.0
        learned = torch.cat([threshold.learned for threshold in self.thresholds.values()]).sum()
        return push * self.pressure.typical * self.left - push * (learned - learned.detach())

    def on_step(self, progress: float) -> None:
        """Two hundred times a run: sets the level at which the cost follows a cubic ramp (arXiv 1710.01878, equation 1)
        down to what was asked for and stays there, while layers go on trading with one another. With a lambda: keeps
        pushing until there is as little left as was asked for."""
        tick = int(progress * _LOOKS + 1e-9)  # steps divide a run unevenly
        if tick > self._tick and not self.frozen:
            for threshold, weight in self._pairs():
                threshold.bound(weight)
            if self.steered:
                ramp = (1 - min(progress / RAMP, 1.0)) ** 3
                self._meet(self.wanted + (1 - self.wanted) * ramp)
        self._tick = tick
        self.pressure.trades.fill_(float(progress > RAMP))  # before that no price means much
        if self.given is not None:
            reached, typical = self.left <= self.wanted, self.pressure.typical.clamp(min=_TINY)
            self.pressure.push.copy_(torch.clamp(self.given * (not reached) / typical, max=_MOST_PUSH))

    def freeze(self) -> None:
        """Hard masks, for good; what was asked for is met. Warns NoEffectWarning when nothing goes."""
        if self.frozen:
            return
        for threshold, weight in self._pairs():
            threshold.bound(weight)
        if self.steered:
            self._meet(self.wanted)
        for threshold, weight in self._pairs():
            threshold.fix(weight)
        self.frozen = True
        if all(threshold.keep.all() for threshold in self.thresholds.values()):
            warnings.warn(f"{self._name} removed no weight", NoEffectWarning, stacklevel=2)

    def zeros(self) -> dict[str, Tensor]:
        pairs = zip(self.thresholds, self._pairs(), strict=True)
        return {path: t.keep if t.fixed else t.decide(weight) for path, (t, weight) in pairs}

    def near(self) -> float | None:
        shares = [threshold.near(weight) for threshold, weight in self._pairs()]
        return sum(shares) / len(shares) if shares and not self.frozen else None

    def undecayed(self) -> frozenset[str]:
        """Weights under a batch norm: decay makes them smaller without changing what the network computes, and a
        threshold would take that for unimportance."""
        return frozenset(f"{path}.parametrizations.{WEIGHT}.original" for path in self.normed)

    def bake(self) -> nn.Module:
        """A plain copy with exact zeros, batch norms in place."""
        self.freeze()
        return plain(self.model)

    @property
    def given(self) -> float | None:
        """The user's lambda."""
        return next((setting.penalty for setting in self.settings.values()), None)

    @property
    def steered(self) -> bool:
        return bool(self.settings) and self.given is None

    @property
    def wanted(self) -> float:
        """The cost that is to be left: of all layers together, as if each lost the share that was asked of it."""
        shares = {path: setting.blocks.percent / 100 for path, setting in self.settings.items()}
        return sum(self.thresholds[path].cost.at(share) for path, share in shares.items())

    @property
    def left(self) -> float:
        """What the soft masks of the last batch left of the cost of all layers, 0..1."""
        return sum(threshold.left for threshold in self.thresholds.values())

    @torch.no_grad()
    def _meet(self, wanted: float) -> None:
        """The lowest level of thresholds at which no more than `wanted` of the cost is left."""
        energies = [(threshold, threshold.energies(weight)) for threshold, weight in self._pairs()]

        def left(level: float) -> float:
            self.pressure.level.fill_(level)
            return sum(threshold.cost.at(threshold.gone_of(energy)) for threshold, energy in energies)

        low, high = 0.0, 1.0
        while left(high) > wanted and high < _HIGHEST:
            high *= 2
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if left(middle) <= wanted else (middle, high)
        self.pressure.level.fill_(high)

    def _pairs(self) -> Iterator[tuple[Threshold, Tensor]]:
        """Each threshold with the weight that it sees."""
        for path, threshold in self.thresholds.items():
            yield threshold, before(layer_at(self.model, path), threshold).detach()

    @property
    def _name(self) -> str:
        return next((setting.method for setting in self.settings.values()), "ltp")


def thresholded(model: fx.GraphModule, settings: Mapping[str, Ltp], folded: bool) -> Thresholded:
    """A copy of `model` (captured, batch norms in place) with thresholds on the modules of `settings`. `folded`: blocks
    are compared as the batch norms behind them will scale them."""
    model = copy.deepcopy(model)
    behind, pressure, made = norms(model), Pressure(), dict[str, Threshold]()
    weights = sum(layer_at(model, path).weight.numel() for path in settings)
    for path, setting in settings.items():
        layer = layer_at(model, path)
        weight = layer.weight.detach()
        scale = factors(layer, behind.get(path) if folded else None)
        made[path] = Threshold(
            weight, scale, setting.pattern, groups_of(layer), setting.temperature, pressure, setting.penalty is None
        )
        made[path].cost = Cost((0.0, 1.0), (weight.numel() / weights, 0.0))
    for path, threshold in made.items():
        put_first(layer_at(model, path), threshold)
    normed = frozenset(path for path in settings if path in behind)
    applied = Thresholded(model, settings=settings, thresholds=made, pressure=pressure, normed=normed)
    applied.begin()
    return applied
