"""A run: everything that changes from step to step, which is also everything a checkpoint holds."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from shoestring.core.errors import BadInput
from shoestring.train.groups import groups
from shoestring.train.processes import World
from shoestring.train.recipe import Recipe


@dataclass(frozen=True)
class Hooks:
    """What a method wants of training. `penalty`: added to the loss of a step. `on_step`: called after each step with
    the share of the run that is done. `freeze`: called once, before the last phase; a parameter it takes the gradient
    from stays as it is. A run that is continued calls these two again, then restores parameters and buffers.
    `undecayed`: names of parameters that weight decay leaves alone. `loss`: of (inputs, labels), in place of that of
    the labels and the teacher; it runs the model itself. `on_epoch`: called in the process that reports, with the mean
    loss of each epoch that ended, before the checkpoint of the last; what it returns is said beside the loss. It may
    draw random numbers and run the model, and must leave it as it was."""

    penalty: Callable[[], Tensor | float] = lambda: 0.0
    on_step: Callable[[float], object] = lambda progress: None
    freeze: Callable[[], object] = lambda: None
    undecayed: Collection[str] = ()
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    on_epoch: Callable[[Sequence[float]], str] = lambda losses: ""


def optimiser(policy: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's, over groups of parameters that say how they decay."""
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(policy, recipe.lr, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(policy, recipe.lr, recipe.momentum, nesterov=recipe.momentum > 0)


class Run:
    """Training in steps. `total`: how many, `step`: those done. `freezes`: the one before which grids and masks are
    fixed. `loss`: sum over the steps of the epoch under way, a float64 scalar. `history`: mean loss of the epochs that
    ended. `seconds`: spent so far. Raises BadInput when no parameter requires a gradient."""

    def __init__(self, model: nn.Module, recipe: Recipe, hooks: Hooks, per_epoch: int, world: World):
        self.model, self.recipe, self.hooks, self.per_epoch, self.world = model, recipe, hooks, per_epoch, world
        self.total = recipe.steps(per_epoch)
        self.freezes = recipe.freezes(self.total)
        self.step, self.frozen, self.seconds, self.history = 0, False, 0.0, list[float]()
        self.loss = torch.zeros((), dtype=torch.float64, device=world.device)
        policy = groups(model, recipe.weight_decay, self.hooks.undecayed)
        if not policy:
            raise BadInput("model: none of its parameters requires a gradient; there is nothing to train")
        self.optimiser = optimiser(policy, recipe)
        self.parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items() if recipe.ema}

    def advance(self, loss: Tensor) -> None:
        """One optimiser step down the gradient of `loss`, this process's share of the batch."""
        loss.backward()
        self.world.average([loss.detach(), *(p.grad for p in self.parameters.values() if p.grad is not None)])
        self.loss += loss.detach()
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(self.step, self.total)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        if self.average:
            # Young averages forget faster, or a short run would return the weights it began with.
            decay = min(self.recipe.ema, self.step / (self.step + 9))
            get_ema_multi_avg_fn(decay)(*self._moving(), None)
        self.hooks.on_step(self.step / self.total)

    @property
    def between_epochs(self) -> bool:
        """Whether an epoch has just ended, be it that the run ends within it."""
        return self.step == self.total or self.step % self.per_epoch == 0

    def mean_loss(self) -> float:
        """Of the steps since the epoch began, of which there is at least one."""
        return self.loss.item() / ((self.step - 1) % self.per_epoch + 1)

    def end_epoch(self) -> None:
        self.history.append(self.mean_loss())
        self.loss.zero_()

    def freeze(self) -> None:
        """Fixes grids and masks, to the same values in every process."""
        self.hooks.freeze()
        self.world.agree(self.model)
        self.frozen = True

    def sound(self) -> bool:
        """Whether the loss and all parameters are finite."""
        size = get_total_norm(parameter.detach() for parameter in self.parameters.values())
        return math.isfinite(self.loss.item() + size.item())

    def finish(self) -> None:
        """Gives the model its averaged parameters. Those that no longer require a gradient, and buffers, are left."""
        with torch.no_grad():
            for average, parameter in zip(*self._moving(), strict=True):
                parameter.copy_(average)

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return {
            "step": self.step,
            "frozen": self.frozen,
            "seconds": self.seconds,
            "loss": self.loss,
            "history": self.history,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` gave. Raises BadInput when it is of another model."""
        self.step, self.frozen, self.seconds = state["step"], state["frozen"], state["seconds"]
        self.history = list(state["history"])
        self.loss.copy_(state["loss"])
        self.hooks.on_step(self.step / self.total)
        if self.frozen:
            self.hooks.freeze()
        try:
            self.model.load_state_dict(state["model"])
            for name, average in self.average.items():
                average.copy_(state["average"][name])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise BadInput("checkpoint: is of another model; give another folder or remove it") from error

    def _moving(self) -> tuple[list[Tensor], list[Tensor]]:
        """The averages, and the parameters they follow, without those that require no gradient."""
        moving = [name for name in self.average if self.parameters[name].requires_grad]
        return [self.average[name] for name in moving], [self.parameters[name].detach() for name in moving]
