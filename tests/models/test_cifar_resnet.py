"""ResNets for small pictures against the paper's sizes, and a second forward pass written from it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from shoestring.models.cifar_resnet import CifarResNet, cifar_resnet20, cifar_resnet56


def reference(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    """Section 4.2: 6n + 2 layers; shortcuts are the identity, with zeros for channels that are not there."""

    def conv(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        x = F.conv2d(x, state[f"{name}.weight"], None, stride, 1)
        return F.batch_norm(x, *(state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    x = conv(x, "conv1", "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for index in range(blocks):
            block, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
            y = conv(x, f"{block}.conv1", f"{block}.bn1", stride).clamp(min=0)
            y = conv(y, f"{block}.conv2", f"{block}.bn2")
            short = torch.zeros_like(y)
            first = (y.shape[1] - x.shape[1]) // 2
            short[:, first : first + x.shape[1]] = x[:, :, ::stride, ::stride]
            x = (y + short).clamp(min=0)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(
    ("factory", "blocks", "parameters"),
    [(cifar_resnet20, 3, 269_722), (cifar_resnet56, 9, 853_018)],  # "0.27M" and "0.85M" in table 6
)
def test_against_the_paper(factory: Callable[..., CifarResNet], blocks: int, parameters: int) -> None:
    torch.manual_seed(0)
    model = factory()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    model.double()(torch.randn(4, 3, 32, 32, dtype=torch.float64))
    model.eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(model(x), reference(model.state_dict(), x, blocks), rtol=1e-10, atol=1e-10)


def test_narrower() -> None:
    assert cifar_resnet20((11, 22, 44)).fc.in_features == 44
