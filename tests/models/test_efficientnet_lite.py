"""EfficientNet-Lite against its published sizes, TensorFlow's SAME padding, and a released checkpoint's layout."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from shoestring.models.efficientnet_lite import (
    EfficientNetLite,
    _spatial,
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
    rename_released,
)


@pytest.mark.parametrize(
    ("factory", "parameters", "blocks"),
    [(efficientnet_lite0, 4_652_008, 16), (efficientnet_lite1, 5_416_680, 21), (efficientnet_lite2, 6_092_072, 21)],
)
def test_sizes(factory: Callable[[], EfficientNetLite], parameters: int, blocks: int):
    model = factory()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.blocks) == blocks


def test_forward_and_classes():
    model = efficientnet_lite0(classes=5).eval()
    assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 5)
    assert model.blocks(model.stem(torch.zeros(1, 3, 224, 224))).shape == (1, 320, 7, 7)


@pytest.mark.parametrize("size", [15, 16, 33, 112, 260])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_tensorflows_same(size: int, kernel: int, stride: int):
    """Each output is the sum of the window that TensorFlow documents: begins at i * stride - pad // 2."""
    layer = _spatial(1, 1, kernel, stride, size)
    conv = next(module for module in layer if isinstance(module, nn.Conv2d))
    nn.init.ones_(conv.weight)
    pixels = torch.arange(size * size, dtype=torch.float64).reshape(size, size)
    got = nn.Sequential(*[module for module in layer if not isinstance(module, nn.BatchNorm2d | nn.ReLU6)]).double()
    out = got(pixels[None, None])[0, 0]
    assert out.shape == (math.ceil(size / stride),) * 2
    pad = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) // 2
    for i, j in [(0, 0), (0, len(out) - 1), (len(out) // 2, 1), (len(out) - 1, len(out) - 1)]:
        top, left = i * stride - pad, j * stride - pad
        window = pixels[max(top, 0) : top + kernel, max(left, 0) : left + kernel]
        assert out[i, j].item() == window.sum().item()


def test_released_names_are_paired_in_order_and_others_left_alone():
    model = efficientnet_lite0()
    own = model.state_dict()
    released = {f"_blocks.{index}" if index else "_conv_stem.weight": value for index, value in enumerate(own.values())}
    renamed = rename_released(model, released)
    assert list(renamed) == list(own)
    assert all(renamed[name] is own[name] for name in own)
    assert rename_released(model, own) is own
    short = dict(list(released.items())[:-1])
    assert rename_released(model, short) is short
