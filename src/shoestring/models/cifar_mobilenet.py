"""MobileNetV2 (arXiv 1801.04381) for 32x32 pictures, with swish activations (arXiv 1710.05941).

The paper's inverted residual (expand 1x1, depthwise 3x3, project 1x1 without activation, add) at expansion 3, with
the strides where a small processor wants them: the stem halves the picture at once, so nearly all of the work is done
at 8x8 and 4x4, and the maps that the memory has to carry stay small.

| stage    | blocks | channels | map   |
| -------- | ------ | -------- | ----- |
| stem     |        | 32       | 16x16 |
| stage 1  | 2      | 32       | 16x16 |
| stage 2  | 4      | 96       | 8x8   |
| stage 3  | 3      | 192      | 4x4   |
| head     |        | 512      | 4x4   |
"""

from torch import Tensor, nn

# (blocks, channels, stride of the first block)
_STAGES = ((2, 32, 1), (4, 96, 2), (3, 192, 2))
_STEM, _HEAD, _EXPANSION = 32, 512, 3


class _ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and (unless `act=False`) swish: (N, I, H, W) -> (N, O, H/s, W/s)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if act:
            layers.append(nn.SiLU())
        super().__init__(*layers)


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project; plus the input where shapes agree: (N, I, H, W) -> (N, O, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * _EXPANSION
        self.residual = stride == 1 and inputs == outputs
        self.expand = _ConvNorm(inputs, hidden, 1)
        self.depthwise = _ConvNorm(hidden, hidden, 3, stride, groups=hidden)
        self.project = _ConvNorm(hidden, outputs, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class CifarMobileNet(nn.Module):
    """Class scores of small pictures: (N, 3, 32, 32) -> (N, num_classes). Other sizes work too."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = _STEM
        for count, channels, first_stride in _STAGES:
            for i in range(count):
                blocks.append(_InvertedResidual(inputs, channels, first_stride if i == 0 else 1))
                inputs = channels
        self.stem = _ConvNorm(3, _STEM, 3, stride=2)
        self.blocks = nn.Sequential(*blocks)
        self.head = _ConvNorm(inputs, _HEAD, 1)
        self.classifier = nn.Linear(_HEAD, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))  # (N, 512, H/8, W/8)
        return self.classifier(x.mean((2, 3)))


def cifar_mobilenet(num_classes: int = 10) -> nn.Module:
    """An untrained network: (N, 3, 32, 32) -> (N, num_classes)."""
    return CifarMobileNet(num_classes)
