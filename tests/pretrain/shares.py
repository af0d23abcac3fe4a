"""Losses of codes as a program: shares.py OUT writes to OUT-RANK.pt, for each loss, its value and the gradient of a
linear map that made the codes, after the processes have averaged. Together they have sixteen codes."""

import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from shoestring.pretrain.contrast import ntxent, vicreg
from shoestring.pretrain.equivariant import turn_told
from shoestring.train.processes import World, gathered, join


def spread(a: Tensor, b: Tensor) -> Tensor:
    """Depends on every pair, and on which code came from whom."""
    every = gathered(a)
    return (every @ every.T).square().mean() + b.mean()


def told(a: Tensor, b: Tensor, turns: Tensor) -> Tensor:
    return turn_told(a.unflatten(1, (-1, 3)), b.unflatten(1, (-1, 3)), turns)


LOSSES: dict[str, Callable[..., Tensor]] = {"spread": spread, "ntxent": ntxent, "vicreg": vicreg, "turn": told}


def results(world: World) -> dict[str, Tensor]:
    """`NAME` and `NAME gradient` of each loss."""
    torch.manual_seed(0)
    first, second = torch.randn(2, 8, 10)
    turns, _ = torch.linalg.qr(torch.randn(8, 3, 3))
    turns = turns * torch.linalg.det(turns)[:, None, None]
    layer = nn.Linear(10, 6)
    mine = slice(world.rank, None, world.size)
    found = {}
    for name, loss in LOSSES.items():
        layer.zero_grad()
        codes = layer(first[mine]), layer(second[mine])
        value = loss(*codes, turns[mine]) if name == "turn" else loss(*codes)
        value.backward()
        gradient = layer.weight.grad
        assert gradient is not None
        kept = [value.detach(), gradient]
        world.average(kept)
        found |= {name: kept[0], f"{name} gradient": kept[1].clone()}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(results(join()), f"{sys.argv[1]}-{os.environ.get('RANK', 0)}.pt")
