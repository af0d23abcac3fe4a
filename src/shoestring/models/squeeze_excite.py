"""Squeeze-and-excitation (Squeeze-and-Excitation Networks, arXiv 1709.01507): channels weighed by what all of them see.

Modules carry torchvision's names.
"""

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """[B, channels, H, W] -> the same. Means over the map, 1x1 to `reduced` channels, `act`, 1x1 back, `gate`, and its
    product with the input (equations 2 to 4)."""

    def __init__(self, channels: int, reduced: int, act: nn.Module, gate: nn.Module):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.activation = act
        self.fc2 = nn.Conv2d(reduced, channels, 1)
        self.scale_activation = gate

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * self.scale_activation(scale)
