"""Contrast: two looks at one cloud are to be told from all others (SimCLR, arXiv 2002.05709), or to agree while nothing
is lost (VICReg, arXiv 2105.04906)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT, pooled
from shoestring.pretrain.heads import projection
from shoestring.pretrain.objective import Objective
from shoestring.pretrain.views import Views, view
from shoestring.train.processes import gathered

LOSSES = ("ntxent", "vicreg")


def ntxent(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Of codes [n, d] and [n, d], row i of both of one thing: cross entropy of finding the other among the 2n - 1, by
    cosine over `temperature`, mean over all 2n (SimCLR, eq. 1 and algorithm 1; CrossPoint, arXiv 2203.00680, eq. 1 to
    4). Under several processes the codes of all are contrasted (`train.processes.gathered`)."""
    codes = functional.normalize(torch.cat([gathered(a), gathered(b)]), dim=1)
    near = codes @ codes.T / temperature
    near = near.masked_fill(torch.eye(len(codes), dtype=torch.bool, device=codes.device), -torch.inf)
    places = torch.arange(len(codes), device=codes.device)
    return functional.cross_entropy(near, (places + len(codes) // 2) % len(codes))


def vicreg(a: Tensor, b: Tensor, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)) -> Tensor:
    """Of codes [n, d] and [n, d]: `weights` times invariance, variance and covariance (VICReg, eq. 1 to 6). Under
    several processes it is that of the codes of all (`train.processes.gathered`)."""
    a, b = gathered(a), gathered(b)
    invariance = functional.mse_loss(a, b)
    variance = _spread(a) + _spread(b)
    covariance = _shared(a) + _shared(b)
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


def together(encoder: PointViT, views: Sequence[Tensor]) -> Tensor:
    """Features [V B, 2 dim] of V views of each cloud, which pass as one, so that batch norms see one batch."""
    groups, centres = (torch.cat(parts) for parts in zip(*(encoder.group(xyz) for xyz in views), strict=True))
    return pooled(encoder.encode(groups, centres))


class Contrast(Objective):
    """`loss`: ntxent or vicreg, of `width` codes. Raises BadInput for another one."""

    def __init__(
        self, encoder: PointViT, look: Views, loss: str = "ntxent", width: int = 128, temperature: float = 0.1
    ):
        super().__init__(encoder, look)
        if loss not in LOSSES:
            raise BadInput(f"loss: {loss!r} is not known; write one of {', '.join(LOSSES)}")
        self.loss, self.temperature = loss, temperature
        self.project = projection(2 * encoder.dim, width)

    def forward(self, xyz: Tensor, index: Tensor) -> Tensor:
        return self.agreement(*self.codes(xyz))

    def codes(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        """Of two looks at each cloud, [B, width] each."""
        a, b = self.project(together(self.encoder, [view(xyz, self.look) for _ in range(2)])).chunk(2)
        return a, b

    def agreement(self, a: Tensor, b: Tensor) -> Tensor:
        """The loss of codes [B, width] of two looks."""
        return ntxent(a, b, self.temperature) if self.loss == "ntxent" else vicreg(a, b)


def _spread(codes: Tensor) -> Tensor:
    """The hinge of the standard deviation below 1 (VICReg, eq. 1 and 2, epsilon 1e-4)."""
    return functional.relu(1 - (codes.var(0) + 1e-4).sqrt()).mean()


def _shared(codes: Tensor) -> Tensor:
    """Squares of what is off the diagonal of the covariance, over d (VICReg, eq. 3 and 4)."""
    centred = codes - codes.mean(0)
    covariance = centred.T @ centred / (len(codes) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / codes.shape[1]
