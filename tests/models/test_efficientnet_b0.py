"""EfficientNet-B0 against torchvision's published names and sizes, counts by hand, and a second forward pass."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from shoestring.models.efficientnet_b0 import EfficientNetB0, cifar_efficientnet_b0, efficientnet_b0

# Table 1 of the paper, a block a line: stage, inputs, outputs, expansion, kernel, stride.
BLOCKS = [
    (1, 32, 16, 1, 3, 1),
    (2, 16, 24, 6, 3, 2), (2, 24, 24, 6, 3, 1),
    (3, 24, 40, 6, 5, 2), (3, 40, 40, 6, 5, 1),
    (4, 40, 80, 6, 3, 2), (4, 80, 80, 6, 3, 1), (4, 80, 80, 6, 3, 1),
    (5, 80, 112, 6, 5, 1), (5, 112, 112, 6, 5, 1), (5, 112, 112, 6, 5, 1),
    (6, 112, 192, 6, 5, 2), (6, 192, 192, 6, 5, 1), (6, 192, 192, 6, 5, 1), (6, 192, 192, 6, 5, 1),
    (7, 192, 320, 6, 3, 1),
]  # fmt: skip


def reference(state: dict[str, Tensor], x: Tensor, full: int = 0) -> Tensor:
    """The paper's network, reading weights by torchvision's names; `full`: how many first strides of 2 are left out."""
    strides = iter([1] * full + [2] * 5)

    def conv(x: Tensor, name: str, stride: int = 1, act: bool = True) -> Tensor:
        weight = state[f"{name}.0.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=x.shape[1] // weight.shape[1])
        norm = [state[f"{name}.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *norm, eps=1e-5)
        return x * torch.sigmoid(x) if act else x

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].flatten(1).T + state[f"{name}.bias"]

    x = conv(x, "features.0", next(strides))
    for index, (stage, inputs, outputs, expansion, _, stride) in enumerate(BLOCKS):
        name = f"features.{stage}.{sum(line[0] == stage for line in BLOCKS[:index])}.block"
        y, part = x, 0
        if expansion > 1:
            y, part = conv(y, f"{name}.0"), 1
        y = conv(y, f"{name}.{part}", next(strides) if stride == 2 else 1)
        squeezed = linear(y.mean((2, 3)), f"{name}.{part + 1}.fc1")
        assert squeezed.shape[1] == inputs // 4
        gate = torch.sigmoid(linear(squeezed * torch.sigmoid(squeezed), f"{name}.{part + 1}.fc2"))
        y = conv(y * gate[:, :, None, None], f"{name}.{part + 2}", act=False)
        x = x + y if stride == 1 and inputs == outputs else y
    return linear(conv(x, "features.8").mean((2, 3)), "classifier.1")


def by_hand(side: int, full: int, classes: int) -> tuple[int, int, int]:
    """Parameters, multiply-accumulates and outputs of all layers with weights, for pictures of `side` pixels."""
    strides = iter([1] * full + [2] * 5)
    side //= next(strides)
    parameters, macs, outputs = 27 * 32 + 64, 27 * 32 * side**2, 32 * side**2
    for _, cin, cout, expansion, kernel, stride in BLOCKS:
        wide, squeezed = cin * expansion, cin // 4
        if expansion > 1:
            parameters, macs, outputs = (
                parameters + cin * wide + 2 * wide, macs + cin * wide * side**2, outputs + wide * side**2
            )  # fmt: skip
        side //= next(strides) if stride == 2 else 1
        parameters += wide * (kernel**2 + 2) + 2 * wide * squeezed + wide + squeezed + wide * cout + 2 * cout
        macs += wide * side**2 * (kernel**2 + cout) + 2 * wide * squeezed
        outputs += (wide + cout) * side**2 + wide + squeezed
    parameters += 320 * 1280 + 2560 + 1281 * classes
    return parameters, macs + 320 * 1280 * side**2 + 1280 * classes, outputs + 1280 * side**2 + classes


def test_published_figures() -> None:
    """torchvision: 5288548 parameters, 0.386 billion MACs; timm: 6.75 million activations."""
    parameters, macs, outputs = by_hand(224, 0, 1000)
    assert (parameters, round(macs / 1e9, 3), round(outputs / 1e6, 2)) == (5_288_548, 0.386, 6.75)


@pytest.mark.parametrize(
    ("model", "side", "full"), [(efficientnet_b0(), 224, 0), (cifar_efficientnet_b0(), 32, 2)], ids=["large", "small"]
)
def test_counts(model: EfficientNetB0, side: int, full: int) -> None:
    parameters, macs, _ = by_hand(side, full, model.classifier[1].out_features)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    assert counter.get_total_flops() == 2 * macs


def test_names_are_torchvisions() -> None:
    state = efficientnet_b0().state_dict()
    assert len(state) == 360
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["features.1.0.block.0.0.weight"] == (32, 1, 3, 3)
    assert shapes["features.1.0.block.1.fc1.weight"] == (8, 32, 1, 1)
    assert shapes["features.1.0.block.2.1.running_var"] == (16,)
    assert shapes["features.6.3.block.1.0.weight"] == (1152, 1, 5, 5)
    assert shapes["features.7.0.block.2.fc2.bias"] == (1152,)
    assert shapes["features.8.0.weight"] == (1280, 320, 1, 1)
    assert shapes["classifier.1.weight"] == (1000, 1280)


@pytest.mark.parametrize(("factory", "full"), [(efficientnet_b0, 0), (cifar_efficientnet_b0, 2)])
def test_forward_equals_the_reference(factory: type[EfficientNetB0], full: int) -> None:
    torch.manual_seed(0)
    model = factory(classes=7).double()
    model(torch.randn(4, 3, 32, 32, dtype=torch.float64))  # batch norms see something
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), reference(model.state_dict(), x, full), rtol=1e-9, atol=1e-9)


def test_the_small_one_keeps_swish_and_ends_at_4x4() -> None:
    model = cifar_efficientnet_b0().eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert model.features(torch.zeros(1, 3, 32, 32)).shape == (1, 1280, 4, 4)
    assert sum(isinstance(module, nn.SiLU) for module in model.modules()) == 2 + 3 * 16 - 1
