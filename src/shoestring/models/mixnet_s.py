"""MixNet-S (MixConv: Mixed Depthwise Convolutional Kernels, arXiv 1907.09595).

A depthwise layer filters equal shares of its channels with kernels of different sizes; where it says so, the pointwise
layers around it are split in two as well. ReLU in the first blocks, the stem and the head, swish elsewhere. As in timm,
padding is symmetric and batch norm has torch's own epsilon; its checkpoints load by `rename_released`.
"""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shoestring.models.squeeze_excite import SqueezeExcite


class _Block(NamedTuple):
    """A line of the authors' code (tensorflow/tpu, mixnet_builder.py). `expand`, `project`: in how many parts;
    `kernels`: of the depthwise parts; `squeeze`: the squeezed channels by the block's inputs, 0 without."""

    repeats: int
    kernels: tuple[int, ...]
    expand: int
    project: int
    expansion: int
    cout: int
    squeeze: float
    act: type[nn.Module]


# By stages; the resolution changes at the first block of one.
_STAGES = (
    (_Block(1, (3,), 1, 1, 1, 16, 0, nn.ReLU),),
    (_Block(1, (3,), 2, 2, 6, 24, 0, nn.ReLU), _Block(1, (3,), 2, 2, 3, 24, 0, nn.ReLU)),
    (_Block(1, (3, 5, 7), 1, 1, 6, 40, 0.5, nn.SiLU), _Block(3, (3, 5), 2, 2, 6, 40, 0.5, nn.SiLU)),
    (_Block(1, (3, 5, 7), 1, 2, 6, 80, 0.25, nn.SiLU), _Block(2, (3, 5), 1, 2, 6, 80, 0.25, nn.SiLU)),
    (_Block(1, (3, 5, 7), 2, 2, 6, 120, 0.5, nn.SiLU), _Block(2, (3, 5, 7, 9), 2, 2, 3, 120, 0.5, nn.SiLU)),
    (_Block(1, (3, 5, 7, 9, 11), 1, 1, 6, 200, 0.5, nn.SiLU), _Block(2, (3, 5, 7, 9), 1, 2, 6, 200, 0.5, nn.SiLU)),
)
_STEM, _HEAD = 16, 1536
# Of the stem, then of the first block of each stage. On 32x32 the first two halvings are left out: the last map is 4x4.
_STRIDES, _SMALL_STRIDES = (2, 1, 2, 2, 2, 1, 2), (1, 1, 1, 2, 2, 1, 2)

# Our names and timm's, tensor by tensor; its first block has no expansion, and counts on from there.
_RELEASED = (
    (r"^stem\.0", "conv_stem"),
    (r"^stem\.1", "bn1"),
    (r"^head\.0", "conv_head"),
    (r"^head\.1", "bn2"),
    (r"^(blocks\.0\.0)\.depthwise\.0\.1", r"\1.bn1"),
    (r"^(blocks\.0\.0)\.project\.0\.0", r"\1.conv_pw"),
    (r"^(blocks\.0\.0)\.project\.0\.1", r"\1.bn2"),
    (r"expand\.(\d)\.0", r"conv_pw.\1"),
    (r"expand\.\d\.1", "bn1"),
    (r"depthwise\.(\d)\.0", r"conv_dw.\1"),
    (r"depthwise\.\d\.1", "bn2"),
    (r"project\.(\d)\.0", r"conv_pwl.\1"),
    (r"project\.\d\.1", "bn3"),
    (r"squeeze\.fc1", "se.conv_reduce"),
    (r"squeeze\.fc2", "se.conv_expand"),
)


class MixConv(nn.ModuleList):
    """[B, cin, H, W] -> [B, cout, H/stride, W/stride]: equal shares of the channels, each with a kernel of its own (and
    each with a batch norm of its own, which can be folded into it), joined again."""

    def __init__(self, cin: int, cout: int, kernels: tuple[int, ...], stride: int = 1, depthwise: bool = False):
        cin, cout = cin // len(kernels), cout // len(kernels)
        groups = cin if depthwise else 1
        super().__init__(
            nn.Sequential(nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(cout))
            for k in kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        if len(self) == 1:
            return self[0](x)
        shares = x.chunk(len(self), 1)
        return torch.cat([conv(shares[index]) for index, conv in enumerate(self)], 1)


class MixBlock(nn.Module):
    """Expand, filter each channel, squeeze-and-excite, project without activation; a residual where the shape allows
    it."""

    def __init__(self, cin: int, shape: _Block, stride: int):
        super().__init__()
        wide = cin * shape.expansion
        self.expand = MixConv(cin, wide, (1,) * shape.expand) if shape.expansion > 1 else None
        self.depthwise = MixConv(wide, wide, shape.kernels, stride, depthwise=True)
        self.act = shape.act()
        self.squeeze = (
            SqueezeExcite(wide, int(cin * shape.squeeze), shape.act(), nn.Sigmoid()) if shape.squeeze else None
        )
        self.project = MixConv(wide, shape.cout, (1,) * shape.project)
        self.residual = stride == 1 and cin == shape.cout

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.act(self.expand(x))
        y = self.act(self.depthwise(y))
        y = self.project(y if self.squeeze is None else self.squeeze(y))
        return x + y if self.residual else y


def _conv_norm(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """[B, cin, H, W] -> [B, cout, H/stride, W/stride]."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU())


class MixNetS(nn.Module):
    """[B, 3, H, W] -> logits [B, classes]. `strides`: of the stem, then of the first block of each stage."""

    def __init__(self, classes: int = 1000, strides: tuple[int, ...] = _STRIDES):
        super().__init__()
        self.stem = _conv_norm(3, _STEM, 3, strides[0])
        stages, channels = [], _STEM
        for shapes, stride in zip(_STAGES, strides[1:], strict=True):
            stage: list[nn.Module] = []
            for shape in shapes:
                for _ in range(shape.repeats):
                    stage.append(MixBlock(channels, shape, 1 if stage else stride))
                    channels = shape.cout
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.head = _conv_norm(channels, _HEAD, 1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(_HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(self.dropout(x.mean((2, 3))))


def mixnet_s(classes: int = 1000) -> MixNetS:
    return MixNetS(classes)


def cifar_mixnet_s(classes: int = 10) -> MixNetS:
    """The same network for 32x32 pictures."""
    return MixNetS(classes, _SMALL_STRIDES)


def rename_released(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of timm's under this file's names; any other comes back as it is. timm normalises all shares of a
    mixed convolution at once, so its batch norms are cut into shares; names and shapes are checked on loading."""
    if "conv_stem.weight" not in state:
        return state
    owners: dict[str, list[str]] = {}
    for name in model.state_dict():
        owners.setdefault(_released(name, state), []).append(name)
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        owning = owners.get(name, [name])
        shares = value.chunk(len(owning)) if value.dim() else [value] * len(owning)
        renamed.update(zip(owning, shares, strict=False))
    return renamed


def _released(name: str, state: dict[str, Tensor]) -> str:
    """timm's name of the tensor that holds `name`."""
    for ours, theirs in _RELEASED:
        name = re.sub(ours, theirs, name)
    return name if name in state else name.replace(".0.weight", ".weight")  # a convolution that is not mixed
