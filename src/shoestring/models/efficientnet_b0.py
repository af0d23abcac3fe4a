"""EfficientNet-B0 (EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv 1905.11946).

Inverted residuals with squeeze-and-excitation and swish (SiLU) throughout. Modules carry torchvision's names, so that
its checkpoints load as they are; like there, padding is symmetric and batch norm has torch's own epsilon.
"""

from torch import Tensor, nn

from shoestring.models.squeeze_excite import SqueezeExcite

# expansion, output channels, repeats, kernel (Table 1 of the paper)
_STAGES = ((1, 16, 1, 3), (6, 24, 2, 3), (6, 40, 2, 5), (6, 80, 3, 3), (6, 112, 3, 5), (6, 192, 4, 5), (6, 320, 1, 3))
_STEM, _HEAD = 32, 1280
# Of the stem, then of the first block of each stage. On 32x32 the first two halvings are left out: the last map is 4x4.
_STRIDES, _SMALL_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1), (1, 1, 1, 2, 2, 1, 2, 1)


def _conv_norm(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """[B, cin, H, W] -> [B, cout, H/stride, W/stride], with swish unless `act` is False."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), *([nn.SiLU()] if act else []))


class MBConv(nn.Module):
    """Expand 1x1, depthwise k x k, squeeze-and-excite, project 1x1 without activation; a residual where the shape
    allows it. The squeezed channels are a quarter of the block's inputs, not of its expanded ones."""

    def __init__(self, cin: int, cout: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = cin * expansion
        self.block = nn.Sequential(
            *([_conv_norm(cin, wide, 1)] if expansion > 1 else []),
            _conv_norm(wide, wide, kernel, stride, groups=wide),
            SqueezeExcite(wide, cin // 4, nn.SiLU(), nn.Sigmoid()),
            _conv_norm(wide, cout, 1, act=False),
        )
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return x + y if self.residual else y


class EfficientNetB0(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]. `strides`: of the stem, then of the first block of each stage."""

    def __init__(self, classes: int = 1000, strides: tuple[int, ...] = _STRIDES):
        super().__init__()
        layers, channels = [_conv_norm(3, _STEM, 3, strides[0])], _STEM
        for (expansion, cout, repeats, kernel), stride in zip(_STAGES, strides[1:], strict=True):
            stage = []
            for repeat in range(repeats):
                stage.append(MBConv(channels, cout, expansion, kernel, stride if repeat == 0 else 1))
                channels = cout
            layers.append(nn.Sequential(*stage))
        self.features = nn.Sequential(*layers, _conv_norm(channels, _HEAD, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_HEAD, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def efficientnet_b0(classes: int = 1000) -> EfficientNetB0:
    return EfficientNetB0(classes)


def cifar_efficientnet_b0(classes: int = 10) -> EfficientNetB0:
    """The same network for 32x32 pictures."""
    return EfficientNetB0(classes, _SMALL_STRIDES)
