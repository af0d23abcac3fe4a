"""A network of every kind of layer that runs in microseconds: `tests/tiny.py:tiny`, with --input 3x32x32."""

import torch
from torch import Tensor, nn

SHAPE, CLASSES = (3, 32, 32), 10
LAYERS = ["stem.0", "blocks.0.depthwise.0", "blocks.0.project.0", "blocks.1.depthwise.0", "blocks.1.project.0"]
LAYERS.append("classifier")


class Block(nn.Module):
    """Depthwise 3x3, 1x1, and the input on top."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        filters = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.depthwise = nn.Sequential(filters, nn.BatchNorm2d(channels), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.depthwise(x))


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


def tiny() -> nn.Module:
    """The same on every call, with scores far enough apart that photographs get different classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tiny()
    with torch.no_grad():
        model.classifier.weight.mul_(8)
    return model.eval()
