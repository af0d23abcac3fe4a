"""PointMLP (Rethinking Network Design and Local Geometry in Point Cloud, arXiv 2202.07123), for small devices.

In the shape of its elite variant: four stages that halve the points and group the nearest around each, residual
bottlenecks before and after the maximum over a group. What is different makes it cheap:

- the first layer of a stage is linear in what is concatenated, so its two parts are computed where each is small:
  features once a point and not once for every group that the point is in, geometry on three coordinates;
- the paper divides offsets by their standard deviation over the whole cloud (its geometric affine module). Here they
  are divided by a constant of the stage, the radius that the neighbours of a surface fill: that quantises and exports;
- 16 neighbours and not 24.
"""

import math

import torch
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.geometry.operators import farthest, nearest, take

POINTS, NEIGHBOURS, WIDTH = 1024, 16, 32
_WIDER = (2, 4, 8, 8)  # channels of the stages, in widths
_BLOCKS = (1, 1, 2, 1)  # before the maximum, and as many after it
_BOTTLENECK = 4
_SURFACE = 4.0  # of an object in the unit sphere, whose own surface is 12.6


class PointMLP(nn.Module):
    """xyz [B, `points`, 3], in the unit sphere -> logits [B, classes]."""

    def __init__(self, classes: int = 40, width: int = WIDTH, neighbours: int = NEIGHBOURS, points: int = POINTS):
        super().__init__()
        stages = len(_WIDER)
        if points % 2**stages or points >> (stages - 1) < neighbours:
            raise BadInput(
                f"point_mlp: {points} points cannot be halved {stages} times, with {neighbours} neighbours left at the "
                f"last; give a multiple of {2**stages}, at least {neighbours << (stages - 1)}"
            )
        self.embed = nn.Sequential(*_conv_norm(3, width), nn.ReLU())
        self.stages = nn.ModuleList()
        channels = width
        for index, (wider, blocks) in enumerate(zip(_WIDER, _BLOCKS, strict=True)):
            self.stages.append(Stage(channels, wider * width, points >> index, neighbours, blocks))
            channels = wider * width
        # Maxima are positive and far from zero: without the norm, steps that suit all else move every output of the
        # first layer at once, soon below zero for good.
        self.head = nn.Sequential(
            nn.Linear(2 * channels, 4 * width, bias=False),
            nn.BatchNorm1d(4 * width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4 * width, classes),
        )

    def forward(self, xyz: Tensor) -> Tensor:
        x = self.embed(xyz.transpose(1, 2).unsqueeze(3))
        for stage in self.stages:
            xyz, x = stage(xyz, x)
        return self.head(torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


class Stage(nn.Module):
    """xyz [B, points, 3] and x [B, cin, points, 1] -> half of the points, [B, points/2, 3] and [B, cout, points/2, 1],
    each having seen its neighbours."""

    def __init__(self, cin: int, cout: int, points: int, neighbours: int, blocks: int):
        super().__init__()
        self.count, self.neighbours = points // 2, neighbours
        self.nearness = 1 / radius(points, neighbours)
        self.feature = nn.Sequential(*_conv_norm(cin, cout))
        self.geometry = nn.Sequential(*_conv_norm(3, cout))
        self.act = nn.ReLU()
        self.before = nn.Sequential(*(Residual(cout) for _ in range(blocks)))
        self.after = nn.Sequential(*(Residual(cout) for _ in range(blocks)))

    def forward(self, xyz: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        centres = take(xyz, farthest(xyz, self.count))
        near = nearest(centres, xyz, self.neighbours)
        offsets = (take(xyz, near) - centres.unsqueeze(2)) * self.nearness
        grouped = take(self.feature(x).squeeze(3).transpose(1, 2), near)
        y = self.act(self.geometry(offsets.permute(0, 3, 1, 2)) + grouped.permute(0, 3, 1, 2))
        return centres, self.after(self.before(y).amax(3, keepdim=True))


class Residual(nn.Module):
    """[B, channels, M, K] -> the same: through a quarter of the channels, and added."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // _BOTTLENECK
        self.reduce = nn.Sequential(*_conv_norm(channels, inner), nn.ReLU())
        self.expand = nn.Sequential(*_conv_norm(inner, channels))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.expand(self.reduce(x)))


def radius(points: int, neighbours: int) -> float:
    """Of the disc that holds so many of so many points, spread evenly over an object in the unit sphere."""
    return math.sqrt(_SURFACE * neighbours / (math.pi * points))


def _conv_norm(cin: int, cout: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout)


def point_mlp(classes: int = 40) -> PointMLP:
    return PointMLP(classes)
