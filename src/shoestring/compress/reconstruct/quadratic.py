"""The error of a layer as a quadratic of its weight, its least-squares weight, and the bias that goes with a weight."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.compress.reconstruct.moments import Moments


@dataclass(frozen=True)
class Quadratic:
    """E |y - W x - b|^2 of each row of W, the best b taken, is `rows(W)`. `hessian`: covariance of x, [g, d, d];
    `cross`: of y with x, [g, o, d]; `variance`: of y, [g, o]; `x`, `y`: their means. Without a
    bias they are about 0 instead. float64."""

    hessian: Tensor
    cross: Tensor
    variance: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, moments: Moments, free: bool = True) -> "Quadratic":
        """`free`: the layer has a bias; without, b is 0."""
        if free:
            return cls(*moments.covariances(), *moments.means())
        xx, yx, yy = (part / moments.count for part in (moments.xx, moments.yx, moments.yy))
        return cls(xx, yx, yy, torch.zeros_like(moments.x), torch.zeros_like(moments.y))

    def rows(self, weight: Tensor) -> Tensor:
        """The error of each row of `weight` [g, o, d]: [g, o]."""
        return self.variance - 2 * (weight * self.cross).sum(2) + (weight @ self.hessian * weight).sum(2)

    def errors(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Of each row with a bias [g, o] of its own: [g, o]."""
        return self.rows(weight) + (bias - self.bias(weight)).square()

    def bias(self, weight: Tensor) -> Tensor:
        """The best bias [g, o] of a weight: bias correction in closed form."""
        return self.y - (weight * self.x[:, None]).sum(2)

    def damped(self, weight: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """(H, T): the quadratic (W - T) H (W - T)' is the error plus `share` of the mean variance of x times
        |W - weight|^2, up to a constant. A few inputs leave directions of x unseen; there a weight stays what it was.
        Inputs that never vary get an H of their own too."""
        size = self.hessian.shape[-1]
        mean = self.hessian.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(torch.float32).tiny)
        ridge = (share * mean)[:, None, None]
        h = self.hessian + ridge * torch.eye(size, dtype=self.hessian.dtype)
        target = torch.linalg.solve(h, (self.cross + ridge * weight).mT).mT
        return h, target


def refit(hessian: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """The weight with the least (W - T) H (W - T)' of those that are zero where `keep` is False, in closed form.
    `hessian`: [g, d, d]; `target`, `keep`: [g, o, d]. Rows with one support are solved together."""
    if keep.all():
        return target
    found = torch.zeros_like(target)
    for group, pulled in enumerate(target @ hessian):
        supports, owners = torch.unique(keep[group], dim=0, return_inverse=True)
        for index, support in enumerate(supports):
            rows, columns = (owners == index).nonzero()[:, 0], support.nonzero()[:, 0]
            if len(columns):
                factor = torch.linalg.cholesky(hessian[group][columns][:, columns])
                solved = torch.cholesky_solve(pulled[rows][:, columns].mT, factor).mT
                found[group, rows[:, None], columns] = solved
    return found
