"""Vector Neurons (arXiv 2104.12229): a small PointNet whose features turn with the cloud, layer by layer.

The reference for symmetry, not the cheap way to it: a neuron is a vector, so each layer costs three times the same
layer on numbers and its ReLU another map. Maps are [B, C, 3, N]; for a rotation R every layer keeps f(R x) = R f(x).
"""

import torch
from torch import Tensor, nn

from shoestring.geometry import operators as op

_TINY = 1e-6


class VNLinear(nn.Module):
    """[B, cin, 3, ...] -> [B, cout, 3, ...]: vectors are combined, never their components (equation 2)."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cout, cin))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oc,bc...->bo...", self.weight, x)


class VNReLU(nn.Module):
    """[B, C, 3, ...] -> the same: what points against a learned direction is cut off (equations 4 to 6)."""

    def __init__(self, channels: int, slope: float = 0.2):
        super().__init__()
        self.direction, self.slope = VNLinear(channels, channels), slope

    def forward(self, x: Tensor) -> Tensor:
        along = self.direction(x)
        dot = (x * along).sum(2, keepdim=True)
        cut = x - (dot / (along.square().sum(2, keepdim=True) + _TINY)) * along
        return self.slope * x + (1 - self.slope) * torch.where(dot >= 0, x, cut)


class VNBatchNorm(nn.Module):
    """[B, C, 3, ...] -> the same: lengths are normalised, directions stay (equation 11)."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        length = (x.square().sum(2) + _TINY**2).sqrt()  # the root of 0 has no gradient
        new = self.norm(length.reshape(*length.shape[:2], -1)).reshape(length.shape)
        return x * (new / (length + _TINY)).unsqueeze(2)


class VNMaxPool(nn.Module):
    """[B, C, 3, N] -> [B, C, 3]: of each channel the vector that reaches farthest along a learned direction
    (equations 7 and 8)."""

    def __init__(self, channels: int):
        super().__init__()
        self.direction = VNLinear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        reach = (x * self.direction(x)).sum(2, keepdim=True)
        best = reach.argmax(-1, keepdim=True).expand(-1, -1, 3, -1)
        return x.gather(-1, best).squeeze(-1)


class VNInvariant(nn.Module):
    """[B, C, 3, ...] -> [B, C, 3, ...] that no rotation changes: coordinates in three vectors made of the map itself
    (equation 12)."""

    def __init__(self, channels: int):
        super().__init__()
        self.frame = nn.Sequential(_layer(channels, max(3, channels // 2)), VNLinear(max(3, channels // 2), 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bci...,bdi...->bcd...", x, self.frame(x))


class VNPointNet(nn.Module):
    """float [B, N, 3] -> logits [B, classes], the same for every rotation about and shift of the cloud's mean.

    `width`: channels of vectors in the first layers, doubled in the last. `neighbours`: of each point, from whose edges
    its first vectors are made (vectors of one point alone would all be parallel)."""

    def __init__(self, classes: int, width: int = 16, neighbours: int = 12):
        super().__init__()
        self.neighbours = neighbours
        self.edges = _layer(3, width)
        self.points = nn.Sequential(_layer(width, width), _layer(width, 2 * width))
        self.pool = VNMaxPool(2 * width)
        self.invariant = VNInvariant(4 * width)
        self.head = nn.Sequential(
            nn.Linear(12 * width, 4 * width), nn.BatchNorm1d(4 * width), nn.ReLU(), nn.Linear(4 * width, classes)
        )

    def forward(self, xyz: Tensor) -> Tensor:
        return self.head(self.invariants(xyz))

    def invariants(self, xyz: Tensor) -> Tensor:
        """[B, 12 * width] that no rotation changes: of each number the largest over the points."""
        return self.invariant(self.vectors(xyz)).flatten(1, 2).amax(-1)

    def vectors(self, xyz: Tensor) -> Tensor:
        """[B, 4 * width, 3, N] that turn with the cloud: each point's own, then those of the whole cloud."""
        xyz = xyz - xyz.mean(1, keepdim=True)
        near = op.take(xyz, op.nearest(xyz, xyz, self.neighbours))
        centre = xyz.unsqueeze(2).expand_as(near)
        edges = torch.stack([near - centre, centre, torch.linalg.cross(near, centre)], dim=1)  # [B, 3, N, K, xyz]
        x = self.edges(edges.permute(0, 1, 4, 2, 3)).mean(-1)
        x = self.points(x)
        return torch.cat([x, self.pool(x).unsqueeze(-1).expand_as(x)], dim=1)


def vn_pointnet(classes: int = 40, width: int = 16) -> VNPointNet:
    return VNPointNet(classes, width)


def _layer(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(VNLinear(cin, cout), VNBatchNorm(cout), VNReLU(cout))
