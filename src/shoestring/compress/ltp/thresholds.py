"""Learned thresholds: a soft mask on a weight that becomes a hard one, as a parametrization.

A block stays when its mean squared weight is above the layer's threshold tau. In training the mask is
`m = sigmoid((mean square - tau) / T)`, which lets the loss see a change of tau; T is the layer's temperature, the unit
in which thresholds and blocks are compared here. What is learned is tau itself, from 0 upwards, under a penalty that
the user sets (arXiv 2003.00075); or, where a cost is to be met, the logarithm of how much tau is off from `start`,
which loses least of the layers' squared weights at that cost.
"""

from typing import Any

import torch
from torch import Tensor, nn

from shoestring.core.blocks import MOST
from shoestring.core.cost import Cost
from shoestring.core.pattern import BlockPattern
from shoestring.graph.blocks import sizes, spread, sums

_LIMIT = 3.0  # of what one batch says of a threshold, in typical sizes
_PACE = 0.03  # of what is learned as a logarithm, in typical sizes
_FORGET = 1e-3  # of the running mean of those sizes, per answer
_ROUND = 1e-6  # of shares in float32
_NEAR = 4.0  # temperatures within which a block counts as near its threshold


class Pressure(nn.Module):
    """What all thresholds of a network share, as buffers, so that checkpoints have it.

    Where a cost is to be met: `level`, what thresholds are multiplied by; `trades`, 1 while layers trade, else 0;
    `earned` and `spent`, running means of what the loss answered, times what was saved, and of the square of what was
    saved. Where a penalty is given: `push`, its weight in typical sizes of an answer. `square`: the mean square of
    `answers` answers."""

    level: Tensor
    push: Tensor
    square: Tensor
    answers: Tensor
    earned: Tensor
    spent: Tensor
    trades: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("level", "push", "square", "answers", "earned", "spent", "trades"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def typical(self) -> Tensor:
        return self.square.sqrt()

    @torch.no_grad()
    def scaled(self, answer: Tensor) -> Tensor:
        """`answer` in typical sizes, cut off where a batch is an outlier."""
        self.answers.add_(1)
        self.square.lerp_(answer.square().sum(), torch.clamp(1 / self.answers, min=_FORGET))
        return (answer / self.typical.clamp(min=torch.finfo(torch.float32).tiny)).clamp(-_LIMIT, _LIMIT)

    @torch.no_grad()
    def traded(self, answer: Tensor, saved: float) -> Tensor:
        """What is left of `answer` when the price, a running mean over layers and batches, of what is `saved` has been
        paid; in typical sizes."""
        weight = torch.clamp(1 / (self.answers + 1), min=_FORGET)
        self.earned.lerp_(answer.sum() * saved, weight)
        self.spent.lerp_(torch.full_like(self.spent, saved * saved), weight)
        price = self.earned / self.spent.clamp(min=torch.finfo(torch.float32).tiny)
        return self.scaled(answer - price * saved) * _PACE * self.trades


class Threshold(nn.Module):
    """Weight [O, I, ...] to the same times its soft mask; after `fix` times its hard one, with exact zeros.

    `scale`: [O], what each output is multiplied by before blocks are compared (the batch norm to be folded, or ones).
    `temperature`: the paper's T0; T = T0 * var(root mean square of the blocks), arXiv 2003.00075 equation 15 for blocks
    of one weight. `steered`: a cost is to be met. `most`: where a threshold ends, so that something is left. `left`,
    `leverage`: of the cost of all what is left in this layer, and what a threshold that rises by a temperature would
    save, as the last batch found them."""

    scale: Tensor
    heat: Tensor
    sizes: Tensor
    keep: Tensor
    fixed: Tensor
    prices: Tensor
    learned: nn.Parameter
    start: Tensor
    most: Tensor

    def __init__(  # noqa: PLR0913 - what a layer is, and how it is to be pruned
        self,
        weight: Tensor,
        scale: Tensor,
        pattern: BlockPattern,
        groups: int,
        temperature: float,
        pressure: Pressure,
        steered: bool,
    ):
        super().__init__()
        self.pattern, self.groups, self.pressure, self.steered = pattern, groups, pressure, steered
        self.register_buffer("scale", scale.detach().clone().reshape(-1, *[1] * (weight.ndim - 1)))
        self.register_buffer("sizes", sizes(tuple(weight.shape), pattern, groups).to(weight.device))
        self.register_buffer("heat", torch.ones(()))
        self.register_buffer("keep", torch.ones(weight.shape, dtype=torch.bool, device=weight.device))
        self.register_buffer("fixed", torch.tensor(False))
        self.learned = nn.Parameter(torch.zeros(1, device=weight.device))
        self.register_buffer("prices", torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64))
        self.left, self.leverage = 1.0, 0.0
        spread_ = self.energies(weight).sqrt().var(correction=0)
        self.heat.copy_(temperature * torch.clamp(spread_, min=torch.finfo(torch.float32).tiny))
        self.register_buffer("start", torch.ones(1, device=weight.device))
        self.register_buffer("most", self._quantile(self.energies(weight), MOST / 100).reshape(1).clone())

    def forward(self, weight: Tensor) -> Tensor:
        if self.fixed:
            return torch.where(self.keep, weight, 0.0)
        learned = self.learned
        if torch.is_grad_enabled() and self.training:
            learned = _Answer.apply(learned, self)
        mask = torch.sigmoid(self.energies(weight) - self.tau(learned))
        self._look(mask.detach())
        return weight * spread(mask, self.pattern, tuple(weight.shape))

    def tau(self, learned: Tensor | None = None) -> Tensor:
        """The threshold in temperatures: [1]."""
        learned = self.learned if learned is None else learned
        if not self.steered:
            return learned
        return torch.minimum(self.pressure.level * self.start * learned.exp(), self.most)

    @torch.no_grad()
    def begin(self, weight: Tensor, share: float) -> None:
        """Sets `start` so that at level 1 that share of the weights goes."""
        self.start.copy_(self._quantile(self.energies(weight), share))

    def energies(self, weight: Tensor) -> Tensor:
        """Mean squared weight of every block, in temperatures. Detached (equation 14): else weights would be pushed
        away from the threshold until it no longer learns."""
        return sums((weight.detach() * self.scale).float().square(), self.pattern, self.groups) / self.sizes / self.heat

    @torch.no_grad()
    def gone_of(self, energies: Tensor) -> float:
        """The share of the weights that would be removed if the threshold stayed where it is."""
        return 1 - float(((energies > self.tau()) * self.sizes).sum() / self.sizes.sum())

    @torch.no_grad()
    def near(self, weight: Tensor) -> float:
        """The share of blocks within four temperatures of the threshold: none means that it learns nothing."""
        return float(((self.energies(weight) - self.tau()).abs() < _NEAR).float().mean())

    @property
    def cost(self) -> Cost:
        """Of the layer, as a part of the cost of all, by its share of zeros."""
        return Cost(*(tuple(line) for line in self.prices.tolist()))

    @cost.setter
    def cost(self, cost: Cost) -> None:
        self.prices = torch.tensor([cost.zeros, cost.ms], dtype=torch.float64)

    def _look(self, mask: Tensor) -> None:
        kept, all_ = (mask * self.sizes).sum(), self.sizes.sum()
        gone, near = float(1 - kept / all_), float((mask * (1 - mask) * self.sizes).sum() / all_)
        self.left, self.leverage = self.cost.at(gone), self.cost.slope(gone) * near

    @torch.no_grad()
    def bound(self, weight: Tensor) -> None:
        """Keeps the threshold where it leaves something of the layer, and from 0 upwards."""
        self.most.copy_(self._quantile(self.energies(weight), MOST / 100))
        if not self.steered:
            self.learned.clamp_(min=torch.zeros_like(self.most), max=self.most)

    def _quantile(self, energies: Tensor, share: float) -> Tensor:
        """Below which no more than `share` of the weights lie: half way between two energies, so that rounding does
        not matter."""
        ranked, order = energies.flatten().sort()
        below = int(((self.sizes.flatten()[order].cumsum(0) / self.sizes.sum()) <= share + _ROUND).sum())
        return (ranked[max(below - 1, 0)] * bool(below) + ranked[min(below, len(order) - 1)]) / 2

    @torch.no_grad()
    def decide(self, weight: Tensor) -> Tensor:
        """What stays if the threshold is where it is: bool in the shape of `weight`."""
        return spread(self.energies(weight) > self.tau(), self.pattern, tuple(weight.shape))

    def fix(self, weight: Tensor) -> None:
        self.keep.copy_(self.decide(weight))
        self.fixed.fill_(True)
        self.learned.requires_grad_(False)


class _Answer(torch.autograd.Function):
    """Identity on what a threshold learns. Its gradient, what the loss answers when the threshold rises, is divided by
    how much of the cost that saves: both shrink with the number of blocks that are near, their ratio is a price. Then
    by the typical size of that, so that thresholds of all layers learn at one pace (the learning rate of each is its
    own, in the words of the paper)."""

    @staticmethod
    def forward(ctx: Any, learned: Tensor, threshold: Threshold) -> Tensor:
        ctx.threshold = threshold
        return learned.view_as(learned)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (answer,), threshold = gradients, ctx.threshold
        if threshold.steered:
            return threshold.pressure.traded(answer, threshold.leverage * float(threshold.tau())), None
        if threshold.leverage < torch.finfo(torch.float32).tiny:  # no block is near
            return torch.zeros_like(answer), None
        return threshold.pressure.scaled(answer / threshold.leverage), None
