"""MobileNetV3-Small (Searching for MobileNetV3, arXiv 1905.02244).

ReLU on the large maps, h-swish (x * clip(x + 3, 0, 6) / 6) on the small ones, hard sigmoids as gates. Modules carry
torchvision's names, so that its checkpoints load as they are.
"""

from typing import NamedTuple

from torch import Tensor, nn

from shoestring.models.mobilenet_v2 import round_channels
from shoestring.models.squeeze_excite import SqueezeExcite


class _Block(NamedTuple):
    """A line of Table 2 of the paper."""

    kernel: int
    wide: int
    cout: int
    squeeze: bool
    act: type[nn.Module]


_BLOCKS = (
    _Block(3, 16, 16, True, nn.ReLU),
    _Block(3, 72, 24, False, nn.ReLU),
    _Block(3, 88, 24, False, nn.ReLU),
    _Block(5, 96, 40, True, nn.Hardswish),
    _Block(5, 240, 40, True, nn.Hardswish),
    _Block(5, 240, 40, True, nn.Hardswish),
    _Block(5, 120, 48, True, nn.Hardswish),
    _Block(5, 144, 48, True, nn.Hardswish),
    _Block(5, 288, 96, True, nn.Hardswish),
    _Block(5, 576, 96, True, nn.Hardswish),
    _Block(5, 576, 96, True, nn.Hardswish),
)
_STEM, _LAST, _HEAD = 16, 576, 1024
# Of the stem, then of each block. On 32x32 the first two halvings are left out: the last map is 4x4.
_STRIDES, _SMALL_STRIDES = (2, 2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1), (1, 1, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1)


def _conv_norm(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """[B, cin, H, W] -> [B, cout, H/stride, W/stride], without activation."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout, eps=1e-3, momentum=0.01))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, squeeze-and-excite, project 1x1 without activation; a residual where the shape
    allows it. The squeezed channels are a quarter of the expanded ones."""

    def __init__(self, cin: int, shape: _Block, stride: int):
        super().__init__()
        wide, squeezed = shape.wide, round_channels(shape.wide // 4)
        self.block = nn.Sequential(
            *([_conv_norm(cin, wide, 1).append(shape.act())] if wide != cin else []),
            _conv_norm(wide, wide, shape.kernel, stride, groups=wide).append(shape.act()),
            *([SqueezeExcite(wide, squeezed, nn.ReLU(), nn.Hardsigmoid())] if shape.squeeze else []),
            _conv_norm(wide, shape.cout, 1),
        )
        self.residual = stride == 1 and cin == shape.cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.residual else y


class MobileNetV3Small(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]. `strides`: of the stem, then of each block."""

    def __init__(self, classes: int = 1000, strides: tuple[int, ...] = _STRIDES):
        super().__init__()
        layers: list[nn.Module] = [_conv_norm(3, _STEM, 3, strides[0]).append(nn.Hardswish())]
        channels = _STEM
        for shape, stride in zip(_BLOCKS, strides[1:], strict=True):
            layers.append(InvertedResidual(channels, shape, stride))
            channels = shape.cout
        self.features = nn.Sequential(*layers, _conv_norm(channels, _LAST, 1).append(nn.Hardswish()))
        self.classifier = nn.Sequential(
            nn.Linear(_LAST, _HEAD), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(_HEAD, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v3_small(classes: int = 1000) -> MobileNetV3Small:
    return MobileNetV3Small(classes)


def cifar_mobilenet_v3_small(classes: int = 10) -> MobileNetV3Small:
    """The same network for 32x32 pictures."""
    return MobileNetV3Small(classes, _SMALL_STRIDES)
