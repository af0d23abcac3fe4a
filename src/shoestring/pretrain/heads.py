"""What stands between the features that are kept and what is asked of them while learning."""

import torch
from torch import Tensor, nn


def projection(features: int, width: int) -> nn.Sequential:
    """[n, features] to [n, width]: two layers, a batch norm and a ReLU between them (SimCLR, arXiv 2002.05709)."""
    return nn.Sequential(nn.Linear(features, features), nn.BatchNorm1d(features), nn.ReLU(), nn.Linear(features, width))


class Vectors(nn.Module):
    """Features [B, features] to vectors in space [B, count, 3]. `up`: the axis that turns are about, where they are
    about one; the component along it, which they do not change, is 0."""

    keep: Tensor

    def __init__(self, features: int, count: int, up: int | None = None):
        super().__init__()
        self.settings = {"features": features, "count": count, "up": up}
        self.count = count
        self.layers = projection(features, 3 * count)
        keep = torch.tensor([float(axis != up) for axis in range(3)])
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).unflatten(1, (self.count, 3)) * self.keep
