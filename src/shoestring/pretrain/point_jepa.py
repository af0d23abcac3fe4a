"""Point-JEPA: from some patches of a cloud, the tokens are foretold that a slow copy of the encoder gives to others
(arXiv 2404.16432, section 3; block sizes of its code).

Patches are put in a sequence in which neighbours lie near each other, so that a run of the sequence is a region. Four
things differ from the paper. Of all clouds of a batch the runs have the same lengths. A context that meets a target
goes on behind it instead of losing patches. The copy has patches' layers of its own: with those of the encoder the
targets follow every step, and lose directions. And what the place of a patch tells of a token, or what all tokens have
in common, is taken out of the targets (`content`). Of an untrained encoder that is nearly all there is (the test says
how much): foretelling it needs no look at the cloud, the loss falls, and the features fade.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.geometry.operators import take
from shoestring.geometry.reference import distances
from shoestring.models.point_vit import Blocks, PointViT, place_code, some_patches
from shoestring.pretrain.objective import Objective
from shoestring.pretrain.views import Views, view

_LEAST = 1e-6  # standard deviation below which a feature says nothing
_TARGET, _CONTEXT = (0.15, 0.2), (0.4, 0.75)  # shares of the patches


def sequence(centres: Tensor) -> Tensor:
    """int64 [B, M]: the centres [B, M, 3] in an order that begins with the least sum of coordinates and goes on, each
    time, with the nearest that is left (the sequencer: section 3.1)."""
    away = distances(centres, centres)
    rows = torch.arange(len(centres), device=centres.device)
    here = centres.sum(2).argmin(1)
    order = []
    for _ in range(centres.shape[1]):
        order.append(here)
        away[rows, :, here] = torch.inf  # nobody goes there again
        here = away[rows, here].argmin(1)
    return torch.stack(order, 1)


def runs(batch: int, patches: int, targets: int) -> tuple[Tensor, Tensor]:
    """Places in the sequence: of the context int64 [B, C], and of the targets [targets, B, T].

    Lengths are drawn once, starts for each cloud. Targets may overlap one another; the context never meets a target:
    from a start of its own it takes the free places that follow, round the end. C is what is asked for or, of all
    clouds, the fewest that are free. Raises BadInput where targets could take all patches.
    """
    if targets >= patches:
        raise BadInput(f"point_jepa: {targets} targets leave nothing of {patches} patches; ask for fewer targets")
    length = max(1, min(round(patches * _between(*_TARGET)), (patches - 1) // targets))
    starts = torch.randint(patches - length + 1, (targets, batch, 1))
    held = starts + torch.arange(length)
    taken = torch.zeros(batch, patches, dtype=torch.bool)
    for each in held:
        taken.scatter_(1, each, True)
    wanted = max(1, round(patches * _between(*_CONTEXT)))
    count = min(wanted, patches - int(taken.sum(1).max()))
    places = (torch.randint(patches, (batch, 1)) + torch.arange(patches)) % patches
    free = taken.gather(1, places).to(torch.int8).argsort(dim=1, stable=True)  # the free ones first, in their order
    return places.gather(1, free[:, :count]), held


def content(tokens: Tensor, centres: Tensor) -> Tensor:
    """Of tokens [B, M, dim] at `centres` [B, M, 3], what their place does not tell: all that a quadratic function of
    the centre fits (least squares over the batch) is taken out, and each feature then has variance 1."""
    x, y, z = centres.flatten(0, 1).unbind(1)
    places = torch.stack([torch.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x], 1)
    known, _ = torch.linalg.qr(places)
    flat = tokens.flatten(0, 1)
    left = flat - known @ (known.T @ flat)
    return (left / (left.std(0, correction=0) + _LEAST)).view_as(tokens)


class PointJEPA(Objective):
    """`targets`: runs foretold of each cloud. `depth`: blocks of the predictor, half as wide as the encoder. `slow`:
    how much of itself the copy keeps at a step, from the first value to the second. What is to be foretold is the
    `content` of the copy's tokens; the loss is smooth L1. Under several processes each takes out what its own share of
    the batch says of places."""

    def __init__(
        self,
        encoder: PointViT,
        look: Views,
        targets: int = 4,
        depth: int = 3,
        slow: tuple[float, float] = (0.998, 1.0),
    ):
        super().__init__(encoder, look)
        dim, heads = encoder.dim, encoder.settings["heads"]
        narrow = max(heads, dim // 2 // heads * heads)
        self.targets, self.slow = targets, slow
        self.teacher = nn.ModuleList(copy.deepcopy(part) for part in self._copied())
        self.teacher.requires_grad_(False)
        self.narrow, self.widen = nn.Linear(dim, narrow), nn.Linear(narrow, dim)
        self.place = place_code(narrow)
        self.token = nn.Parameter(torch.zeros(narrow))
        self.predictor = Blocks(narrow, depth, heads)
        nn.init.normal_(self.token, std=0.02)

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        groups, centres = self.encoder.group(view(xyz, self.look))
        order = sequence(centres)
        context, targets = (part.to(xyz.device) for part in runs(len(xyz), self.encoder.patches, self.targets))
        seen = order.gather(1, context)
        told = self.encoder.encode(some_patches(groups, seen), take(centres, seen))
        expected = self.expected(groups, centres)
        losses = []
        for run in targets:
            hidden = order.gather(1, run)
            found = self.foretold(told, take(centres, seen), take(centres, hidden))
            losses.append(functional.smooth_l1_loss(found, take(expected, hidden)))
        return torch.stack(losses).mean()

    def expected(self, groups: Tensor, centres: Tensor) -> Tensor:
        """What the slow copy says of all patches beyond their places: [B, M, dim], without gradients."""
        embed, place, blocks = self.teacher
        with torch.no_grad():
            return content(blocks(embed(groups), place(centres)), centres)

    def foretold(self, told: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
        """Tokens [B, T, dim] at the centres `hidden` [B, T, 3], from tokens [B, C, dim] at `seen` [B, C, 3]."""
        blank = self.token.expand(*hidden.shape[:2], -1)
        places = self.place(torch.cat([seen, hidden], 1))
        return self.widen(self.predictor(torch.cat([self.narrow(told), blank], 1), places)[:, seen.shape[1] :])

    def follow(self, progress: float) -> None:
        """The copy goes towards the encoder: t = m t + (1 - m) e, m linear over the run."""
        keep = self.slow[0] + (self.slow[1] - self.slow[0]) * progress
        online = [parameter for part in self._copied() for parameter in part.parameters()]
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), online, strict=True):
                slow.lerp_(fast, 1 - keep)

    def _copied(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.encoder.embed, self.encoder.place, self.encoder.blocks


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
