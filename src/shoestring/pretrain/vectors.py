"""Features read as vectors in space, for what turns with the cloud."""

import torch
from torch import Tensor, nn


class Vectors(nn.Module):
    """Features [B, features] to vectors [B, count, 3], a linear map. `up`: the axis that turns are about, where they
    are about one; the component along it, which they do not change, is 0."""

    keep: Tensor

    def __init__(self, features: int, count: int, up: int | None = None):
        super().__init__()
        self.settings = {"features": features, "count": count, "up": up}
        self.count, self.axes = count, tuple(axis for axis in range(3) if axis != up)
        self.linear = nn.Linear(features, 3 * count)
        keep = torch.zeros(3)
        keep[list(self.axes)] = 1
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features).unflatten(1, (self.count, 3)) * self.keep
