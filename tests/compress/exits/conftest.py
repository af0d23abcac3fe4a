"""A network with a branch, an attention over channels and a chain of layers: 3x8x8 to 4 classes."""

import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.graph.capture import capture

SHAPE, CLASSES = (3, 8, 8), 4


class Branched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.right = nn.Conv2d(8, 8, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU()
        )
        self.shift = nn.Parameter(torch.ones(16, 1, 1))
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.left(x) + self.right(x)
        x = x * self.gate(x)
        x = self.body(x) + self.shift
        return self.classifier(x.mean((2, 3)))


@pytest.fixture
def branched() -> fx.GraphModule:
    torch.manual_seed(0)
    return capture(Branched(), SHAPE)
