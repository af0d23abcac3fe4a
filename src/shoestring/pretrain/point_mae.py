"""Point-MAE: most patches are hidden, and their points are to be found from the rest (arXiv 2203.06604, section 3)."""

import torch
from torch import Tensor, nn

from shoestring.geometry.operators import take
from shoestring.models.point_vit import Blocks, PointViT, place_code, some_patches
from shoestring.pretrain.objective import Objective
from shoestring.pretrain.views import Views, view


def divided(batch: int, patches: int, hidden: float) -> tuple[Tensor, Tensor]:
    """Indices of the patches that are seen and of those that are hidden, int64 [B, .], at random for each cloud: the
    share `hidden` of all, at least one and not all."""
    order = torch.rand(batch, patches).argsort(1)
    count = min(patches - 1, max(1, round(hidden * patches)))
    return order[:, count:], order[:, :count]


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """[n] of point sets [n, P, 3] and [n, Q, 3]: the mean squared distance to the nearest point of the other set, one
    way and the other, summed (the l2 Chamfer distance of Fan, Su and Guibas 2017; Point-MAE's reconstruction loss)."""
    squared = (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(3)
    return squared.amin(2).mean(1) + squared.amin(1).mean(1)


class PointMAE(Objective):
    """`hidden`: the share of the patches that the encoder does not see (the paper: 0.6). `depth`: of the decoder, which
    alone is given a token in the place of what is hidden, so that the encoder never learns where that lies."""

    def __init__(self, encoder: PointViT, look: Views, hidden: float = 0.6, depth: int = 2):
        super().__init__(encoder, look)
        dim, heads = encoder.dim, encoder.settings["heads"]
        self.hidden = hidden
        self.place = place_code(dim)
        self.token = nn.Parameter(torch.zeros(dim))
        self.decoder = Blocks(dim, depth, heads)
        self.points = nn.Linear(dim, 3 * encoder.neighbours)
        nn.init.normal_(self.token, std=0.02)

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        groups, centres = self.encoder.group(view(xyz, self.look))
        shown, hidden = (part.to(xyz.device) for part in divided(len(xyz), self.encoder.patches, self.hidden))
        tokens = self.encoder.encode(some_patches(groups, shown), take(centres, shown))
        found = self.decode(tokens, take(centres, shown), take(centres, hidden))
        return chamfer(found.flatten(0, 1), some_patches(groups, hidden).flatten(0, 1)).mean()

    def decode(self, tokens: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
        """Points [B, H, K, 3] about the centres `hidden` [B, H, 3], from tokens at the centres `seen` [B, T, 3]."""
        blank = self.token.expand(*hidden.shape[:2], -1)
        places = self.place(torch.cat([seen, hidden], 1))
        decoded = self.decoder(torch.cat([tokens, blank], 1), places)[:, seen.shape[1] :]
        return self.points(decoded).unflatten(2, (-1, 3))
