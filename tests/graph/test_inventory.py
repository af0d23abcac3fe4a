"""The inventory against forward hooks that count by hand, against published figures, and against core.counts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from shoestring.core.counts import dense
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, OTHER, Layer
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.models.point_mlp import PointMLP
from shoestring.models.zoo import ZOO


def hooked(model: nn.Module, shape: tuple[int, ...]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """The MACs and the output shape of every convolution and linear layer, seen from outside."""
    seen = {}

    def hook(name: str):
        def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if isinstance(module, nn.Linear):
                length = module.in_features
            else:
                length = module.in_channels // module.groups * torch.tensor(module.kernel_size).prod().item()
            seen[name] = (output.numel() * length, tuple(output.shape[1:]))

        return count

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            module.register_forward_hook(hook(name))
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return seen


def layers_of(model: nn.Module, shape: tuple[int, ...]) -> tuple[Layer, ...]:
    return inventory(capture(model, shape), shape)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("efficientnet_lite0", 385.2), ("mobilenet_v2", 300.8), ("resnet18", 1814.1), ("resnet50", 4089.2)],
)
def test_zoo_against_hooks_and_published_figures(name: str, millions: float):
    model, shape = ZOO[name].factory(), ZOO[name].input
    layers = layers_of(model, shape)
    assert {layer.name: (layer.macs, layer.output) for layer in layers if layer.kind != OTHER} == hooked(model, shape)
    assert sum(layer.macs for layer in layers) / 1e6 == pytest.approx(millions, abs=0.05)
    weights = sum(value.numel() for key, value in model.state_dict().items() if value.dim() in (2, 4))
    assert sum(layer.weights for layer in layers) == weights


def test_folded_network_has_the_same_layers_with_biases():
    model, shape = ZOO["cifar_mobilenet"].factory(), (3, 32, 32)
    gm = capture(model, shape)
    plain, folded = inventory(gm, shape), inventory(fold(gm), shape)
    assert [(layer.name, layer.macs, layer.line) for layer in plain] == [(x.name, x.macs, x.line) for x in folded]
    assert all(layer.bias for layer in folded if layer.kind != OTHER)
    assert {layer.kind for layer in folded} == {CONV, DEPTHWISE, LINEAR, OTHER}
    assert all(layer.line.startswith("cifar_mobilenet.py:") for layer in folded)


class Everything(nn.Module):
    """One of each that needs a rule of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, (2, 1), 1, groups=2)
        self.same = nn.Conv2d(8, 8, 1, bias=False)
        self.act = nn.SiLU()
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2, groups=2)
        self.weight = nn.Parameter(torch.randn(6, 1, 3, 3))
        self.table = nn.Parameter(torch.randn(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = self.same(self.same(x))
        x = self.norm(self.act(x) + 1)
        x = self.act(self.up(self.act(x)))
        x = F.relu(F.conv2d(x, self.weight * 2, padding=1, groups=6))
        x = x * torch.sigmoid(x)
        x += 1
        x = F.dropout(x.mean((2, 3)), training=False)
        return F.linear(x @ self.table, self.table)


def test_each_kind_of_node():
    got = {layer.name: layer for layer in layers_of(Everything(), (4, 6, 6))}
    assert list(got) == [
        "conv", "same", "same:2", "add", "norm", "act:3", "up", "act:4", "conv2d", "sigmoid", "mul_1", "add_1", "mean",
        "matmul", "linear",
    ]  # fmt: skip


def test_fields():
    got = {layer.name: layer for layer in layers_of(Everything(), (4, 6, 6))}
    conv = got["conv"]
    assert (conv.kind, conv.op, conv.input, conv.output) == (CONV, "Conv", (4, 6, 6), (8, 3, 6))
    assert (conv.weight, conv.stride, conv.groups, conv.bias) == ((8, 2, 3, 3), (2, 1), 2, True)
    assert conv.macs == 8 * 3 * 6 * 2 * 9
    assert not got["same"].bias
    up = got["up"]
    assert (up.kind, up.op, up.weight, up.output) == (OTHER, "ConvTranspose", (6, 4, 2, 2), (6, 6, 12))
    assert up.macs == 8 * 3 * 6 * 3 * 4  # each input goes to three outputs' 2x2 windows
    functional = got["conv2d"]
    assert (functional.kind, functional.weight, functional.groups) == (DEPTHWISE, (6, 1, 3, 3), 6)
    assert (functional.stride, functional.macs) == ((1, 1), 6 * 6 * 12 * 9)
    assert (got["matmul"].op, got["matmul"].macs) == ("MatMul", 6 * 5)
    assert (got["linear"].kind, got["linear"].weight, got["linear"].macs) == (LINEAR, (6, 5), 30)
    assert [got[name].op for name in ("mul_1", "add_1", "mean", "act:3", "norm")] == [
        "Mul", "Add", "Mean", "SiLU", "BatchNorm",
    ]  # fmt: skip
    assert got["norm"].weight == (8,)


def test_activations_belong_to_their_layer_with_a_name():
    got = {layer.name: layer.activation for layer in layers_of(Everything(), (4, 6, 6))}
    assert {name: activation for name, activation in got.items() if activation} == {
        "conv": "silu", "same:2": "silu", "conv2d": "relu",
    }  # fmt: skip


def test_a_batch_norm_that_will_be_folded_is_a_bias():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(), nn.BatchNorm2d(4))
    conv, norm = layers_of(model, (3, 2, 2))
    assert (conv.op, conv.bias, conv.activation) == ("Conv", True, "relu6")
    assert (norm.op, norm.weight, norm.activation) == ("BatchNorm", (4,), "")


def test_what_an_output_of_a_pooling_is_made_of():
    class Pools(nn.Module):
        def __init__(self):
            super().__init__()
            self.average, self.wide = nn.AvgPool2d(2), nn.MaxPool2d((3, 1), stride=2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wide(self.average(x))
            x = F.max_pool2d(F.avg_pool2d(x, 3, stride=1, padding=1), kernel_size=(1, 2))
            x = F.adaptive_avg_pool2d(x, (2, 1))
            return (x * x).mean((2, 3)).sum(1)

    got = [(layer.op, layer.window) for layer in layers_of(Pools(), (4, 24, 24))]
    # maps of 24x24, 12x12, 5x6, 5x6, 5x3, 2x1
    functional = [("AvgPool", 9), ("MaxPool", 2), ("AdaptiveAvgPool", 7), ("Mul", 1), ("Mean", 2), ("Sum", 4)]
    assert got == [("AvgPool", 4), ("MaxPool", 3), *functional]


def test_activation_of_a_shared_result_is_its_own_layer():
    class Swish(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            return x * torch.sigmoid(x)

    assert [layer.op for layer in layers_of(Swish(), (4,))] == ["Linear", "Sigmoid", "Mul"]


def test_attention_is_counted_whole():
    tokens, width = 7, 8

    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    (layer,) = layers_of(Attend(), (tokens, width))
    # four projections, then the scores and the weighted sum of the values
    assert layer.macs == 4 * tokens * width * width + 2 * tokens * tokens * width
    assert (layer.kind, layer.op, layer.output) == (OTHER, "MultiheadAttention", (tokens, width))
    assert layer.weights == 4 * width * width + 4 * width
    assert torch.backends.mha.get_fastpath_enabled()


def test_linear_layer_on_tokens():
    (layer,) = layers_of(nn.Linear(8, 3), (7, 8))
    assert (layer.kind, layer.output, layer.macs) == (LINEAR, (7, 3), 7 * 8 * 3)


def test_parametrized_layer_keeps_its_kind():
    (layer,) = layers_of(nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1))), (3, 2, 2))
    assert (layer.name, layer.kind, layer.op, layer.macs) == ("0", CONV, "Conv", 48)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda bias: nn.Conv2d(4, 6, 3, 2, 1, groups=2, bias=bias), (4, 5, 5)),
        (lambda bias: nn.Conv2d(4, 4, 3, groups=4, bias=bias), (4, 5, 5)),
        (lambda bias: nn.Linear(5, 3, bias=bias), (5,)),
        (lambda bias: nn.Linear(5, 3, bias=bias), (7, 5)),
    ],
)
def test_counts_of_layers_equal_dot_products_counted_one_by_one(model, shape: tuple[int, ...], bias: bool):
    module = model(bias)
    (layer,) = layers_of(nn.Sequential(module), shape)
    counts = dense(layer)
    with torch.no_grad():
        outputs = module(torch.zeros(1, *shape)).numel()
    multiplies = adds = 0
    for _ in range(outputs):
        for term in range(module.weight[0].numel()):
            multiplies += 1
            adds += term > 0  # the first product starts the sum
        adds += bias
    assert counts.multiplies == {32: multiplies}
    assert counts.adds == {32: adds}
    assert counts.bits == 32 * sum(parameter.numel() for parameter in module.parameters())


def test_points_are_looked_at_by_those_who_sample_and_group() -> None:
    layers = {layer.name: layer for layer in inventory(capture(PointMLP(3, 8, 4, 64), (64, 3)), (64, 3))}
    assert (layers["farthest"].window, layers["nearest"].window, layers["nearest_1"].window) == (64, 64, 32)
    assert layers["amax"].window == 4 and layers["take_2"].macs == 0
