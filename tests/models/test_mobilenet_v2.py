"""MobileNetV2 against torchvision's published names and sizes, and a second forward pass written from the paper."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from shoestring.models.mobilenet_v2 import MobileNetV2, mobilenet_v2, round_channels


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Table 2 of the paper, reading weights by torchvision's names."""

    def conv(x: Tensor, name: str, norm: str, stride: int = 1, act: bool = True) -> Tensor:
        weight = state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=groups)
        x = F.batch_norm(x, *(state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))
        return x.clamp(0, 6) if act else x

    x = conv(x, "features.0.0", "features.0.1", 2)
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    residual = {3, 5, 6, 8, 9, 10, 12, 13, 15, 16}  # blocks whose input and output agree
    for block, stride in enumerate(strides, 1):
        y, part = x, 0
        if block > 1:
            y = conv(y, f"features.{block}.conv.0.0", f"features.{block}.conv.0.1")
            part = 1
        y = conv(y, f"features.{block}.conv.{part}.0", f"features.{block}.conv.{part}.1", stride)
        y = conv(y, f"features.{block}.conv.{part + 1}", f"features.{block}.conv.{part + 2}", act=False)
        x = x + y if block in residual else y
    x = conv(x, "features.18.0", "features.18.1")
    return F.linear(x.mean(3).mean(2), state["classifier.1.weight"], state["classifier.1.bias"])


def test_names_and_sizes_are_torchvisions():
    model = mobilenet_v2()
    state = model.state_dict()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_504_872
    assert len(state) == 314
    assert state["features.1.conv.1.weight"].shape == (16, 32, 1, 1)
    assert state["features.18.0.weight"].shape == (1280, 320, 1, 1)
    assert state["classifier.1.weight"].shape == (1000, 1280)


def test_forward_equals_the_reference():
    torch.manual_seed(0)
    model = mobilenet_v2(classes=7).double()
    model(torch.randn(4, 3, 64, 64, dtype=torch.float64))  # batch norms see something
    model.eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(model(x), reference(model.state_dict(), x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("width", "numbers"), [(0.5, 1_987_224), (0.75, 2_663_064), (1.4, 6_156_712)])
def test_width(width: float, numbers: int):
    """The totals that Keras prints for these widths; it counts running statistics too."""
    state = MobileNetV2(width).state_dict()
    assert sum(value.numel() for name, value in state.items() if not name.endswith("num_batches_tracked")) == numbers


def test_channels_are_rounded_to_eights_but_lose_no_more_than_a_tenth():
    for tenths in range(1, 4000):
        rounded = round_channels(tenths / 10)
        assert rounded % 8 == 0
        assert rounded >= max(8, 0.9 * tenths / 10)
        assert rounded - tenths / 10 <= 8
