"""MobileNetV2 (Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381).

Modules carry torchvision's names, so that its checkpoints load as they are.
"""

from torch import Tensor, nn

# expansion, output channels, repeats, stride (Table 2 of the paper)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM, _HEAD = 32, 1280


def round_channels(channels: float) -> int:
    """Nearest multiple of 8 that does not lose more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv_norm_act(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """[B, cin, H, W] -> [B, cout, H/stride, W/stride]."""
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; a residual where the shape allows it."""

    def __init__(self, cin: int, cout: int, expansion: int, stride: int):
        super().__init__()
        wide = cin * expansion
        self.conv = nn.Sequential(
            *([_conv_norm_act(cin, wide, 1)] if expansion > 1 else []),
            _conv_norm_act(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]. `width` scales every channel count but the last, which never shrinks."""

    def __init__(self, width: float = 1.0, classes: int = 1000):
        super().__init__()
        channels, head = round_channels(_STEM * width), round_channels(_HEAD * max(1.0, width))
        layers: list[nn.Module] = [_conv_norm_act(3, channels, 3, stride=2)]
        for expansion, wanted, repeats, stride in _STAGES:
            cout = round_channels(wanted * width)
            for repeat in range(repeats):
                layers.append(InvertedResidual(channels, cout, expansion, stride if repeat == 0 else 1))
                channels = cout
        layers.append(_conv_norm_act(channels, head, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(head, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2(classes: int = 1000, width: float = 1.0) -> MobileNetV2:
    return MobileNetV2(width, classes)
