"""MobileNetV3-Small against torchvision's published names and sizes, counts by hand, and a second forward pass."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from shoestring.models.mobilenet_v3_small import MobileNetV3Small, cifar_mobilenet_v3_small, mobilenet_v3_small

# Table 2 of the paper: kernel, inputs, expanded, outputs, squeezed (0: not at all), h-swish, stride.
BLOCKS = [
    (3, 16, 16, 16, 8, False, 2),
    (3, 16, 72, 24, 0, False, 2),
    (3, 24, 88, 24, 0, False, 1),
    (5, 24, 96, 40, 24, True, 2),
    (5, 40, 240, 40, 64, True, 1),
    (5, 40, 240, 40, 64, True, 1),
    (5, 40, 120, 48, 32, True, 1),
    (5, 48, 144, 48, 40, True, 1),
    (5, 48, 288, 96, 72, True, 2),
    (5, 96, 576, 96, 144, True, 1),
    (5, 96, 576, 96, 144, True, 1),
]


def h_swish(x: Tensor) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def reference(state: dict[str, Tensor], x: Tensor, full: int) -> Tensor:
    """The paper's network, reading weights by torchvision's names; `full`: how many first strides of 2 are left out."""
    strides = iter([1] * full + [2] * 5)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.0.weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=x.shape[1] // weight.shape[1])
        norm = [state[f"{name}.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm, eps=1e-3)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].flatten(1).T + state[f"{name}.bias"]

    x = h_swish(conv(x, "features.0", next(strides)))
    for index, (_, inputs, wide, outputs, squeezed, swish, stride) in enumerate(BLOCKS, 1):
        act, y, part = h_swish if swish else F.relu, x, 0
        if wide != inputs:
            y, part = act(conv(y, f"features.{index}.block.0")), 1
        y = act(conv(y, f"features.{index}.block.{part}", next(strides) if stride == 2 else 1))
        if squeezed:
            part += 1
            gate = F.relu(linear(y.mean((2, 3)), f"features.{index}.block.{part}.fc1"))
            assert gate.shape[1] == squeezed
            gate = (linear(gate, f"features.{index}.block.{part}.fc2") + 3).clamp(0, 6) / 6
            y = y * gate[:, :, None, None]
        y = conv(y, f"features.{index}.block.{part + 1}")
        x = x + y if stride == 1 and inputs == outputs else y
    x = h_swish(conv(x, "features.12")).mean((2, 3))
    return linear(h_swish(linear(x, "classifier.0")), "classifier.3")


def by_hand(side: int, full: int, classes: int) -> tuple[int, int, int]:
    """Parameters, multiply-accumulates and outputs of all layers with weights, for pictures of `side` pixels."""
    strides = iter([1] * full + [2] * 5)
    side //= next(strides)
    parameters, macs, outputs = 27 * 16 + 32, 27 * 16 * side**2, 16 * side**2
    for kernel, cin, wide, cout, squeezed, _, stride in BLOCKS:
        if wide != cin:
            parameters += cin * wide + 2 * wide
            macs += cin * wide * side**2
            outputs += wide * side**2
        side //= next(strides) if stride == 2 else 1
        parameters += wide * (kernel**2 + 2) + wide * cout + 2 * cout
        macs += wide * side**2 * (kernel**2 + cout)
        outputs += (wide + cout) * side**2
        if squeezed:
            parameters += 2 * wide * squeezed + wide + squeezed
            macs += 2 * wide * squeezed
            outputs += wide + squeezed
    parameters += 96 * 576 + 2 * 576 + 577 * 1024 + 1025 * classes
    macs += 96 * 576 * side**2 + 576 * 1024 + 1024 * classes
    return parameters, macs, outputs + 576 * side**2 + 1024 + classes


def test_published_figures() -> None:
    """torchvision: 2542856 parameters, 0.057 billion MACs; timm: 1.42 million activations."""
    parameters, macs, outputs = by_hand(224, 0, 1000)
    assert (parameters, round(macs / 1e9, 3), round(outputs / 1e6, 2)) == (2_542_856, 0.057, 1.42)


@pytest.mark.parametrize(
    ("model", "side", "full"),
    [(mobilenet_v3_small(), 224, 0), (cifar_mobilenet_v3_small(), 32, 2)],
    ids=["large", "small"],
)
def test_counts(model: MobileNetV3Small, side: int, full: int) -> None:
    parameters, macs, _ = by_hand(side, full, model.classifier[3].out_features)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, side, side))
    assert counter.get_total_flops() == 2 * macs


def test_names_are_torchvisions() -> None:
    state = mobilenet_v3_small().state_dict()
    assert len(state) == 244
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["features.0.0.weight"] == (16, 3, 3, 3)
    assert shapes["features.1.block.0.0.weight"] == (16, 1, 3, 3)
    assert shapes["features.1.block.1.fc1.weight"] == (8, 16, 1, 1)
    assert shapes["features.1.block.2.1.running_var"] == (16,)
    assert shapes["features.3.block.2.0.weight"] == (24, 88, 1, 1)
    assert shapes["features.11.block.2.fc2.bias"] == (576,)
    assert shapes["features.12.0.weight"] == (576, 96, 1, 1)
    assert shapes["classifier.0.weight"] == (1024, 576)
    assert shapes["classifier.3.weight"] == (1000, 1024)


@pytest.mark.parametrize(("factory", "full"), [(mobilenet_v3_small, 0), (cifar_mobilenet_v3_small, 2)])
def test_forward_equals_the_reference(factory: type[MobileNetV3Small], full: int) -> None:
    torch.manual_seed(0)
    model = factory(classes=7).double()
    model(torch.randn(4, 3, 32, 32, dtype=torch.float64))  # batch norms see something
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():  # torch's h-swish multiplies by float32(1/6), which is off by 2e-8, in float64 too
        torch.testing.assert_close(model.eval()(x), reference(model.state_dict(), x, full), rtol=0, atol=2e-7)


def test_the_small_one_keeps_h_swish_and_ends_at_4x4() -> None:
    model = cifar_mobilenet_v3_small().eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert model.features(torch.zeros(1, 3, 32, 32)).shape == (1, 576, 4, 4)
    assert sum(isinstance(module, nn.Hardswish) for module in model.modules()) == 3 + 2 * 8
