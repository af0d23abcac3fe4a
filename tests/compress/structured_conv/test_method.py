"""Counts against the paper's and the notes' tables, and the method on a network."""

import pytest
import torch
from torch import nn

from shoestring.compress import int8, structured_conv
from shoestring.compress.structured_conv.method import sums
from shoestring.compress.structured_conv.settings import DENSE, Kept, Structured
from shoestring.compress.structured_conv.shape import Shape
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.models import zoo
from shoestring.models.resnet import BasicBlock, ResNet

SIDE = (3, 224, 224)


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    return inventory(capture(model, SIDE), SIDE)


def resnet34() -> nn.Module:
    return ResNet(BasicBlock, (3, 4, 6, 3))


# Network, setting, millions of parameters, billions of multiplications and of additions (naive).
COUNTED = [
    (zoo.entry("resnet18").factory, "n=2", 5.59, 0.883, 0.888),
    (resnet34, "n=2", 10.08, 1.705, 1.714),
    (zoo.entry("resnet50").factory, "n=2:c=0.5", 13.21, 2.002, 2.991),
    (zoo.entry("mobilenet_v2").factory, "n=2:c=0.6", 2.62, 0.180, 0.339),
    (zoo.entry("mobilenet_v2").factory, "n=2:c=0.5:classifier*=c0.5", 1.77, 0.155, 0.320),
]


@pytest.mark.parametrize(("factory", "text", "parameters", "multiplies", "adds"), COUNTED)
def test_counts_of_whole_networks(factory, text, parameters, multiplies, adds) -> None:
    """Batch norms are folded: a bias each, which is an addition; stored they are two numbers."""
    model = factory()
    layers = [layer for layer in layers_of(model) if layer.kind in structured_conv.CARD.kinds]
    settings = structured_conv.assign(layers, structured_conv.parse(text))
    counted = {layer.name: structured_conv.counts(layer, settings[layer.name]) for layer in layers}
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    weights = sum(found.nonzeros for found in counted.values()) + vectors
    assert weights / 1e6 == pytest.approx(parameters, abs=0.005)
    assert sum(found.macs for found in counted.values()) / 1e9 == pytest.approx(multiplies, abs=0.0006)
    naive = sum(found.adds[32] for found in counted.values())
    for layer in layers:
        if (kept := settings[layer.name].kept) != DENSE:
            shape = Shape.of(layer.weight, kept.channels(layer.weight[1]), kept.n)
            naive += sums(layer, shape, naive=True) - sums(layer, shape)
    assert naive / 1e9 == pytest.approx(adds, abs=0.0006)


def test_counts_by_hand() -> None:
    conv = Layer("conv", CONV, "Conv", (4, 6, 6), (3, 6, 6), (3, 4, 3, 3), bias=True, macs=36 * 3 * 36)
    found = structured_conv.counts(conv, Structured(Kept(n=2)))
    assert found.nonzeros == 3 * 4 * 4
    assert found.bits == 32 * (48 + 3)
    assert found.multiplies == {32: 36 * 48}
    assert found.adds == {32: 36 * 48 + 3 * 4 * 7 * 7}  # with the bias, and three for each of 4 x 7 x 7 sums
    one = Layer("one", CONV, "Conv", (8, 5, 5), (3, 5, 5), (3, 8, 1, 1), macs=25 * 24)
    found = structured_conv.counts(one, Structured(Kept(c=0.5)))
    assert found.multiplies == {32: 25 * 12}
    assert found.adds == {32: 25 * (12 - 3) + 25 * (4 + 3)}  # one sum of five channels and three differences
    linear = Layer("fc", LINEAR, "Linear", (8,), (3,), (3, 8), macs=24)
    assert structured_conv.counts(linear, Structured(Kept(c=0.25))).adds == {32: 6 - 3 + 6 + 1}
    dw = Layer("dw", DEPTHWISE, "Conv", (4, 6, 6), (4, 3, 3), (4, 1, 3, 3), (2, 2), 4, macs=9 * 36)
    assert structured_conv.counts(dw, Structured(Kept(n=2))).adds == {32: 9 * 4 * 3 + 3 * 4 * 6 * 6}
    assert structured_conv.counts(dw, Structured(Kept(c=0.5))).macs == dw.macs


def test_options_and_lowering() -> None:
    conv = Layer("conv", CONV, "Conv", (4, 6, 6), (3, 6, 6), (3, 4, 3, 3))
    assert [str(option) for option in structured_conv.options(conv, None)] == ["structured:n=2"]  # type: ignore[arg-type]
    grouped = Layer("conv", CONV, "Conv", (4, 6, 6), (4, 6, 6), (4, 2, 1, 1), groups=2)
    assert structured_conv.options(grouped, None) == ()  # type: ignore[arg-type]
    layer = nn.Conv2d(4, 6, (1, 3), padding=(0, 1)).eval()
    lowered, _ = structured_conv.lower(layer, Structured(Kept(n=2)))
    x = torch.randn(1, 4, 5, 5)
    assert lowered(x).shape == layer(x).shape
    same, _ = structured_conv.lower(layer, Structured(Kept(n=3)))
    torch.testing.assert_close(same(x), layer(x))


def test_a_setting_of_another_method_is_refused() -> None:
    model = capture(nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 8, 8))
    with pytest.raises(BadInput, match="structured: int8 is not a setting of structured"):
        structured_conv.apply(model, {"0": int8.parse("")})
