"""EfficientNet-Lite (EfficientNet, arXiv 1905.11946, without squeeze-excite, with ReLU6; TensorFlow's lite variants).

The layout follows the released lite checkpoints: compound scaling of width and depth, except that the stem, the head
and the depth of the first and the last stage stay as they are. "SAME" padding is computed once from the nominal image
size, so that a stride-2 convolution pads (0, 1) where TensorFlow does.
"""

import math

from torch import Tensor, nn

from shoestring.models.mobilenet_v2 import round_channels

# stage: expansion, output channels, repeats, stride, kernel (Table 1 of the paper)
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _HEAD = 32, 1280


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _pointwise(cin: int, cout: int) -> nn.Sequential:
    """[B, cin, H, W] -> [B, cout, H, W]."""
    return nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), _norm(cout), nn.ReLU6())


def _spatial(cin: int, cout: int, kernel: int, stride: int, size: int, groups: int = 1) -> nn.Sequential:
    """[B, cin, size, size] -> [B, cout, ceil(size / stride), ceil(size / stride)], with SAME padding."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    pad = [] if before == after else [nn.ZeroPad2d((before, after, before, after))]
    conv = nn.Conv2d(cin, cout, kernel, stride, 0 if pad else before, groups=groups, bias=False)
    return nn.Sequential(*pad, conv, _norm(cout), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1; a residual where the shape allows it."""

    def __init__(self, cin: int, cout: int, expansion: int, kernel: int, stride: int, size: int):
        super().__init__()
        wide = cin * expansion
        self.layers = nn.Sequential(
            *([_pointwise(cin, wide)] if expansion > 1 else []),
            _spatial(wide, wide, kernel, stride, size, groups=wide),
            nn.Sequential(nn.Conv2d(wide, cout, 1, bias=False), _norm(cout)),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """[B, 3, size, size] -> logits [B, classes]."""

    def __init__(self, width: float, depth: float, size: int, classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        self.stem = _spatial(3, _STEM, 3, 2, size)
        size, channels, blocks = math.ceil(size / 2), _STEM, []
        for index, (expansion, cout, repeats, stride, kernel) in enumerate(_STAGES):
            cout = round_channels(cout * width)
            if 0 < index < len(_STAGES) - 1:
                repeats = math.ceil(repeats * depth)
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(InvertedResidual(channels, cout, expansion, kernel, step, size))
                size, channels = math.ceil(size / step), cout
        self.blocks = nn.Sequential(*blocks)
        self.head = _pointwise(channels, _HEAD)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(_HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(self.dropout(x.mean((2, 3))))


def efficientnet_lite0(classes: int = 1000) -> EfficientNetLite:
    return EfficientNetLite(1.0, 1.0, 224, classes)


def efficientnet_lite1(classes: int = 1000) -> EfficientNetLite:
    return EfficientNetLite(1.0, 1.1, 240, classes)


def efficientnet_lite2(classes: int = 1000) -> EfficientNetLite:
    return EfficientNetLite(1.1, 1.2, 260, classes, dropout=0.3)


def rename_released(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A released checkpoint (`_blocks.1._bn0.weight`, ...) under this file's names; any other comes back as it is.

    Both list the same tensors in the same order, so they are paired by position; shapes are checked on loading.
    """
    names = model.state_dict()
    if "_conv_stem.weight" not in state and not any(name.startswith("_blocks.") for name in state):
        return state
    return dict(zip(names, state.values(), strict=True)) if len(names) == len(state) else state
