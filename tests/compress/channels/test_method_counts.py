"""What one layer without a share of its channels counts, and the form it takes, by hand."""

import pytest
import torch
from torch import nn

from shoestring.compress.channels import counts, lower, parse
from shoestring.core.counts import dense
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer

CONV_LAYER = Layer("conv", CONV, "Conv", (8, 4, 4), (16, 4, 4), (16, 8, 3, 3), bias=True, macs=16 * 16 * 72)
DW_LAYER = Layer("dw", DEPTHWISE, "Conv", (16, 4, 4), (16, 4, 4), (16, 1, 3, 3), groups=16, macs=16 * 16 * 9)
FC_LAYER = Layer("fc", LINEAR, "Linear", (5, 16), (5, 8), (8, 16), bias=True, macs=5 * 16 * 8)
GROUPED = Layer("g", CONV, "Conv", (16, 4, 4), (16, 4, 4), (16, 4, 1, 1), groups=4, macs=16 * 16 * 4)


def test_outputs_and_inputs_both_go() -> None:
    counted = counts(CONV_LAYER, parse("50%:by4"))
    assert counted.bits == 32 * (8 * 4 * 9 + 8)
    assert counted.multiplies == {32: 16 * 8 * 36}
    assert counted.adds == {32: 16 * 8 * 36}  # a bias makes up for the addition that a sum of n saves


def test_of_depthwise_layers_one_of_them() -> None:
    counted = counts(DW_LAYER, parse("25%"))
    assert counted.bits == 32 * 12 * 9
    assert counted.multiplies == {32: 16 * 12 * 9}
    assert counted.adds == {32: 16 * 12 * 8}


def test_of_linear_layers_on_sequences() -> None:
    counted = counts(FC_LAYER, parse("50%"))
    assert counted.bits == 32 * (4 * 8 + 4)
    assert counted.multiplies == {32: 5 * 4 * 8}


def test_groups_stay() -> None:
    assert counts(GROUPED, parse("50%")) == dense(GROUPED)


@pytest.mark.parametrize("layer", [CONV_LAYER, DW_LAYER, FC_LAYER])
def test_less_than_dense(layer: Layer) -> None:
    counted = counts(layer, parse("25%"))
    assert counted.bytes < dense(layer).bytes
    assert counted.macs < layer.macs
    assert counted.nonzeros < layer.weights


def test_the_form_of_a_layer() -> None:
    conv = nn.Conv2d(8, 16, 3)
    with torch.no_grad():
        conv.weight[::2] *= 0.01
        conv.weight[:, 4:] *= 0.01
    small, _ = lower(conv, parse("50%"))
    assert isinstance(small, nn.Conv2d)
    assert torch.equal(small.weight, conv.weight[1::2, :4])
    assert conv.bias is not None and small.bias is not None
    assert torch.equal(small.bias, conv.bias[1::2])
    assert small(torch.zeros(1, 4, 5, 5)).shape == (1, 8, 3, 3)
    deep, _ = lower(nn.Conv2d(16, 16, 3, groups=16), parse("50%"))
    assert deep(torch.zeros(1, 8, 5, 5)).shape == (1, 8, 3, 3)
    grouped, _ = lower(nn.Conv2d(16, 16, 1, groups=4), parse("50%"))
    assert grouped(torch.zeros(1, 16, 5, 5)).shape == (1, 16, 5, 5)
    linear, _ = lower(nn.Linear(16, 8), parse("50%"))
    assert linear(torch.zeros(5, 8)).shape == (5, 4)
