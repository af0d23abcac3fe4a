"""ResNet-20 and ResNet-56 for 32x32 pictures (Deep Residual Learning, arXiv 1512.03385, section 4.2).

Three stages of basic blocks with 16, 32 and 64 channels; shortcuts have no parameters (option A): where the shape
changes, every other pixel is taken and channels of zeros are added.
"""

from torch import Tensor, nn
from torch.nn import functional as F

_CHANNELS = (16, 32, 64)


class _BasicBlock(nn.Module):
    """[B, cin, H, W] -> [B, channels, H/stride, W/stride]: two 3x3 convolutions."""

    def __init__(self, cin: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.stride, self.more = stride, channels - cin

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)) if self.more else x


class CifarResNet(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]. `blocks`: in each of the three stages, of `channels`; 6 blocks + 2 layers
    deep."""

    def __init__(self, blocks: int, channels: tuple[int, int, int] = _CHANNELS, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        cin, stages = channels[0], []
        for index, width in enumerate(channels):
            stage = []
            for repeat in range(blocks):
                stage.append(_BasicBlock(cin, width, 2 if index > 0 and repeat == 0 else 1))
                cin = width
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def cifar_resnet20(channels: tuple[int, int, int] = _CHANNELS) -> CifarResNet:
    return CifarResNet(3, channels)


def cifar_resnet56(channels: tuple[int, int, int] = _CHANNELS) -> CifarResNet:
    return CifarResNet(9, channels)
