"""ResNet-18 and ResNet-50 (Deep Residual Learning, arXiv 1512.03385).

Modules carry torchvision's names, so that its checkpoints load as they are; like there, a bottleneck takes its stride
in the 3x3 convolution.
"""

from torch import Tensor, nn

_CHANNELS = (64, 128, 256, 512)


def _shortcut(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    """Option B of the paper: a projection where the shape changes; None where the input itself is the shortcut."""
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class BasicBlock(nn.Module):
    """[B, cin, H, W] -> [B, channels, H/stride, W/stride]: two 3x3 convolutions."""

    expansion = 1

    def __init__(self, cin: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(cin, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """[B, cin, H, W] -> [B, 4 * channels, H/stride, W/stride]: 1x1, 3x3, 1x1."""

    expansion = 4

    def __init__(self, cin: int, channels: int, stride: int):
        super().__init__()
        cout = channels * self.expansion
        self.conv1 = nn.Conv2d(cin, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]. `repeats`: blocks in each of the four stages (Table 1 of the paper)."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], repeats: tuple[int, ...], classes: int = 1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        cin = 64
        stages = []
        for index, (channels, count) in enumerate(zip(_CHANNELS, repeats, strict=True)):
            stage = []
            for repeat in range(count):
                stage.append(block(cin, channels, 2 if index > 0 and repeat == 0 else 1))
                cin = channels * block.expansion
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def resnet18(classes: int = 1000) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), classes)


def resnet50(classes: int = 1000) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), classes)
