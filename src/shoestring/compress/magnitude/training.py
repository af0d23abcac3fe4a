"""Gradual pruning: sparsity rises while the network trains, and masks follow the weights until they are fixed."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as processes
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.compress.magnitude.selection import allotted, kept
from shoestring.compress.magnitude.settings import TAYLOR, Magnitude
from shoestring.compress.method import Applied, Weight
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.graph.masks import Mask, factors, groups_of, layer_at
from shoestring.graph.parametrized import before, plain

RAMP = 0.5  # the share of the run after which sparsity is full
_UPDATES = 40  # of the masks during the ramp; then they stay, so that the network settles with what is left
_MEMORY = 0.98  # of the running mean of Taylor scores, per step


class ScoredMask(Mask):
    """A Mask that keeps the running mean of the squared product of each weight and its gradient (arXiv 1906.10771,
    equation 8): what the loss would change by, to first order, if the weight went."""

    taylor: Tensor

    def __init__(self, keep: Tensor, through: bool):
        super().__init__(keep, through)
        self.register_buffer("taylor", torch.zeros(keep.shape))

    def forward(self, weight: Tensor) -> Tensor:
        masked = super().forward(weight)
        if masked.requires_grad and self.training:
            masked.register_hook(partial(self._note, weight.detach()))
        return masked

    def _note(self, weight: Tensor, gradient: Tensor) -> None:
        self.taylor.mul_(_MEMORY).add_((weight * gradient).square(), alpha=1 - _MEMORY)


@dataclass
class Gradual(Applied):
    """`settings`, `masks`, `norms`: by module path; the norms will be folded into the layers. `shares`: per cent that
    layers under a budget of milliseconds lose."""

    settings: Mapping[str, Magnitude] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    norms: Mapping[str, _BatchNorm] = field(default_factory=dict)
    shares: dict[str, float] | None = None
    frozen: bool = False
    _tick: int = -1

    def price(self, costs: Mapping[str, Cost]) -> None:
        self.shares = allotted(self._weights(), self.settings, costs)

    def on_step(self, progress: float) -> None:
        """Masks anew, forty times a ramp, from the weights as they are; share of the ramp: cubic (arXiv 1710.01878,
        equation 1). After the ramp they stay."""
        tick = min(int(progress / RAMP * _UPDATES + 1e-9), _UPDATES)  # steps divide a run unevenly
        if tick > max(self._tick, 0) and not self.frozen:
            self._tick = tick
            self._update(1 - (1 - min(progress / RAMP, 1.0)) ** 3)
            if tick == _UPDATES:
                self._settle_masks()

    def freeze(self) -> None:
        """The masks at full sparsity. Warns NoEffectWarning when nothing goes."""
        if self.frozen:
            return
        if self._tick < _UPDATES:
            self._update(1.0)
            self._settle_masks()
        self.frozen = True
        weights = self._weights()
        if self.masks and not any(
            weights[path].values[~mask.keep.cpu().numpy()].any() for path, mask in self.masks.items()
        ):
            warnings.warn("magnitude removed no weight", NoEffectWarning, stacklevel=2)

    def zeros(self) -> dict[str, Tensor]:
        return {path: mask.keep for path, mask in self.masks.items()}

    def bake(self) -> nn.Module:
        """A plain copy with exact zeros, batch norms in place."""
        self.freeze()
        return plain(self.model)

    def _settle_masks(self) -> None:
        """From now on nothing comes back: what would, the network is not trained with."""
        for mask in self.masks.values():
            mask.through = False

    def _update(self, ramp: float) -> None:
        weights = self._weights()
        if self.shares is None:
            self.shares = allotted(weights, self.settings, None)
        for path, keep in kept(self._scored(weights), self.settings, self.shares, ramp).items():
            self.masks[path].keep.copy_(torch.from_numpy(keep))

    @torch.no_grad()
    def _weights(self) -> dict[str, Weight]:
        """The weights under the masks, as they will be folded."""
        found = {}
        for path, mask in self.masks.items():
            layer = layer_at(self.model, path)
            weight = before(layer, mask)
            scale = factors(layer, self.norms.get(path)).reshape(-1, *[1] * (weight.ndim - 1))
            found[path] = Weight((weight * scale).cpu().numpy(), groups_of(layer))
        return found

    def _scored(self, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """What blocks are ranked by: `weights`, or Taylor scores in their place. A run that is about to be restored has
        none yet, and its masks will be."""
        found = dict(weights)
        for path, mask in self.masks.items():
            if isinstance(mask, ScoredMask):
                scores = mask.taylor.clone()
                if processes.is_initialized():  # each has seen its part of the batches
                    processes.all_reduce(scores)
                if not scores.any():
                    if self._tick >= 0:
                        continue
                    raise BadInput(f"magnitude: {TAYLOR} scores come from training; add --epochs N, or write norm")
                found[path] = Weight(scores.sqrt().cpu().numpy(), weights[path].groups)
        return found
