"""Folding against the unfolded network in double precision: equal to 1e-10, on fixed and on generated networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.models.cifar_mobilenet import cifar_mobilenet
from shoestring.models.resnet import BasicBlock, Bottleneck


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """In double precision, with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.1, 3.0, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return model.double().eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


def check(model: nn.Module, shape: tuple[int, ...], left: int) -> nn.Module:
    """Folds, compares with the model on three inputs, and checks how many batch norms are `left`."""
    gm = capture(lively(model), shape)
    before = {name: value.clone() for name, value in gm.state_dict().items()}
    folded = fold(gm)
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(folded(x), model(x), rtol=1e-10, atol=1e-10)
    assert norms(folded) == left
    assert all(torch.equal(value, before[name]) for name, value in gm.state_dict().items())  # a copy was folded
    return folded


class Twice(nn.Module):
    """One convolution with two batch norms."""

    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.conv(self.a(self.conv(x))))


class Read(nn.Module):
    """The convolution's result, or its weight, is read elsewhere too."""

    def __init__(self, weight: bool):
        super().__init__()
        self.conv, self.norm, self.weight = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + (F.conv2d(x, self.conv.weight) if self.weight else y)


class SharedNorm(nn.Module):
    """One batch norm after two convolutions: it only reads, so both can take it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.a(x)) * self.norm(self.b(x))


class Drops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training) + F.dropout(x, training=False)


@pytest.mark.parametrize(
    ("model", "shape", "left"),
    [
        (nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, groups=3), nn.BatchNorm2d(6), nn.ReLU()), (3, 7, 5), 0),
        (nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False)), (3, 7, 5), 0),
        (nn.Sequential(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6)), (3, 7), 0),
        (nn.Sequential(nn.ConvTranspose2d(3, 6, 2, 2), nn.BatchNorm2d(6)), (3, 4, 4), 0),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2, groups=2), nn.BatchNorm2d(6)), (4, 4, 4), 1),
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (5,), 0),
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (4, 5), 1),  # the norm is over the four rows
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout2d(), nn.Identity(), nn.BatchNorm2d(4)), (3, 4, 4), 0),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)), (3, 4, 4), 1),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)), (3, 4, 4), 1),
        (nn.Sequential(weight_norm(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4)), (3, 4, 4), 1),
        (Twice(), (4, 3, 3), 2),
        (Read(weight=False), (4, 3, 3), 1),
        (Read(weight=True), (4, 3, 3), 1),
        (SharedNorm(), (4, 3, 3), 0),
        (BasicBlock(4, 6, 2), (4, 8, 8), 0),
        (Bottleneck(8, 2, 1), (8, 6, 6), 0),
        (cifar_mobilenet(), (3, 32, 32), 0),
    ],
)
def test_folded_network_equals_the_network(model: nn.Module, shape: tuple[int, ...], left: int):
    check(model, shape, left)


def test_batch_norm_without_running_statistics_stays():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    check(model, (3, 4, 4), 1)


def test_dropout_and_identity_are_gone_but_a_dropout_that_always_drops_is_not():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.5), Drops(), nn.AlphaDropout(0.5))
    folded = check(model, (4,), 0)
    assert [node.op for node in folded.graph.nodes] == ["placeholder", "call_function", "output"]

    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.9)

    folded = fold(capture(Always(), (50,)))
    assert (folded(torch.ones(1, 50)) == 0).any()


def test_folded_layer_keeps_its_name_and_gains_a_bias():
    folded = check(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)), (3, 4, 4), 0)
    assert sorted(folded.state_dict()) == ["0.bias", "0.weight"]


@st.composite
def small_networks(draw: st.DrawFn) -> nn.Module:
    """A chain of convolutions, norms, activations and residual blocks on six channels of 9x9."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "depthwise", "norm", "relu", "silu", "drop", "block"]))
        if kind in ("conv", "depthwise"):
            kernel = draw(st.sampled_from([1, 3]))
            groups = 6 if kind == "depthwise" else draw(st.sampled_from([1, 2, 3]))
            layers.append(nn.Conv2d(6, 6, kernel, 1, kernel // 2, groups=groups, bias=draw(st.booleans())))
        elif kind == "block":
            layers.append(BasicBlock(6, 6, 1))
        else:
            other = {"norm": nn.BatchNorm2d(6), "relu": nn.ReLU(), "silu": nn.SiLU(), "drop": nn.Dropout()}
            layers.append(other[kind])
    return nn.Sequential(*layers)


@settings(max_examples=40, deadline=None)
@given(small_networks())
def test_generated_networks(model: nn.Module):
    left, follows_conv = 0, False  # a norm goes into the convolution that it, or an unbroken run of norms, follows
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            left += not follows_conv
        elif not isinstance(layer, nn.Dropout):
            follows_conv = isinstance(layer, nn.Conv2d)
    check(model, (6, 9, 9), left)
