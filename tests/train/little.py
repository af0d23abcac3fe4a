"""What the tests of this room train: a network with a quantiser on small noise. Run as a program, it trains that:

little.py FOLDER OUT [KILL] writes the final state to OUT-RANK.pt; process 0 dies by SIGKILL when it asks for the inputs
of step KILL."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from shoestring.train import Hooks, Recipe, Trained, loop, train

INPUTS, PER_EPOCH = 46, 5
RECIPE = Recipe(epochs=4, batch=8, lr=0.1, ema=0.9, distil=0.5, features=("3",), frozen=0.3)


class Noise:
    """Batches of noise with the labels of a hidden linear map. `kill`: the step whose inputs nobody lives to see."""

    def __init__(self, size: int = INPUTS, labelled: bool = True, kill: int = -1):
        self.labelled, self.kill = labelled, kill
        self.inputs = np.random.default_rng(0).standard_normal((size, 3, 8, 8)).astype(np.float32)
        hidden = np.random.default_rng(1).standard_normal((3 * 8 * 8, 4))
        self.labels = (self.inputs.reshape(size, -1) @ hidden).argmax(1) if labelled else np.full(size, -1)

    def __len__(self) -> int:
        return len(self.inputs)

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng((0, number)).permutation(len(self))
        count = max(1, len(self) // batch)
        for index in range(start, count):
            if number * count + index == self.kill and rank == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            chosen = order[index * batch : (index + 1) * batch][rank::world]
            yield self.inputs[chosen], self.labels[chosen]


class Grid(nn.Module):
    """Weights rounded to multiples of a learned step, which `fix` makes a constant."""

    fixed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor([0.05]))
        self.register_buffer("fixed", torch.tensor(0.0))

    def fix(self) -> None:
        self.fixed.copy_(self.step.detach()[0].abs())
        self.step.requires_grad_(False)

    def forward(self, weight: Tensor) -> Tensor:
        step = self.fixed if self.fixed else self.step.abs()
        return weight + (step * torch.round(weight / step) - weight).detach() + 0 * step


def network(norm: bool = True, dropout: float = 0.1) -> fx.GraphModule:
    """[n, 3, 8, 8] to [n, 4]; `0`, `3` and `6` are its layers. The same on every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU()]
        layers += [nn.Conv2d(6, 8, 3, 2), nn.Dropout(dropout), nn.Flatten(), nn.Linear(32, 4)]
        return fx.symbolic_trace(nn.Sequential(*layers))


def quantised(model: fx.GraphModule) -> Hooks:
    """Puts a grid on the weights of layer 3; freezing fixes it."""
    grid = Grid()
    parametrize.register_parametrization(model.get_submodule("3"), "weight", grid)
    return Hooks(penalty=lambda: 0.01 * grid.step.square().sum(), freeze=grid.fix)


def job(folder: Path | None, kill: int = -1, alone: bool = True) -> tuple[nn.Module, Trained]:
    """Trains the quantised network after its original, with a checkpoint after every single step. Not `alone`: without
    what depends on how a batch is split (batch norm, dropout, the variance of features)."""
    made = partial(network, norm=alone, dropout=0.1 if alone else 0.0)
    recipe = RECIPE if alone else replace(RECIPE, features=())
    model = made()
    hooks = quantised(model)
    loop.SAVE_SECONDS = 0.0
    return model, train(model, Noise(kill=kill), recipe, hooks, made(), folder, {"model": "little"})


if __name__ == "__main__":
    torch.set_num_threads(1)
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    kill = int(sys.argv[3]) if len(sys.argv) > 3 else -1
    model, trained = job(Path(sys.argv[1]), kill, alone)
    state = {**model.state_dict(), "history": torch.tensor(trained.history), "leader": torch.tensor(trained.leader)}
    torch.save(state, f"{sys.argv[2]}-{os.environ.get('RANK', 0)}.pt")
