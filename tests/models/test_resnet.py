"""ResNets against torchvision's published names and sizes, and a second forward pass written from the paper."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from shoestring.models.resnet import ResNet, resnet18, resnet50


def reference(state: dict[str, Tensor], x: Tensor, repeats: list[int], strides: list[int]) -> Tensor:
    """Table 1 of the paper; `strides`: of the convolutions in a block that halves the picture."""

    def conv(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2)
        return F.batch_norm(x, *(state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    x = F.max_pool2d(conv(x, "conv1", "bn1", 2).clamp(min=0), 3, 2, 1)
    for stage, count in enumerate(repeats, 1):
        for index in range(count):
            block, halves = f"layer{stage}.{index}", stage > 1 and index == 0
            y = x
            for part, stride in enumerate(strides, 1):
                y = conv(y, f"{block}.conv{part}", f"{block}.bn{part}", stride if halves else 1)
                y = y.clamp(min=0) if part < len(strides) else y
            if f"{block}.downsample.0.weight" in state:
                x = conv(x, f"{block}.downsample.0", f"{block}.downsample.1", 2 if halves else 1)
            x = (x + y).clamp(min=0)
    return F.linear(x.mean(3).mean(2), state["fc.weight"], state["fc.bias"])


CASES = [
    (resnet18, 11_689_512, 122, [2, 2, 2, 2], [2, 1]),
    (resnet50, 25_557_032, 320, [3, 4, 6, 3], [1, 2, 1]),
]


@pytest.mark.parametrize(("factory", "parameters", "tensors", "repeats", "strides"), CASES)
def test_against_torchvision_and_the_reference(
    factory: Callable[..., ResNet], parameters: int, tensors: int, repeats: list[int], strides: list[int]
):
    torch.manual_seed(0)
    model = factory()
    state = model.state_dict()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(state) == tensors
    assert {"layer2.0.downsample.1.running_var", "layer4.1.bn2.num_batches_tracked", "fc.bias"} <= state.keys()
    model.double()(torch.randn(2, 3, 64, 64, dtype=torch.float64))
    model.eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(model(x), reference(model.state_dict(), x, repeats, strides), rtol=1e-10, atol=1e-10)
