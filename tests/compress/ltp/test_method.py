"""What the two share: the form a layer is timed in, its counts, and what the contract calls its zeros."""

import numpy as np
import pytest
import torch
from torch import nn

from shoestring.compress import METHODS, int8
from shoestring.compress.ltp.method import counts, feature, lower
from shoestring.core.counts import Counts
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, Layer
from shoestring.core.pattern import BlockPattern
from shoestring.core.precision import FLOAT
from shoestring.graph.capture import capture

LTP, BLOCK = METHODS["ltp"], METHODS["block_ltp"]


@pytest.mark.parametrize("text", ["4x1@75%", "4x4@50%"])
def test_lowered_layers_have_their_smallest_blocks_at_zero(text: str) -> None:
    layer, setting = nn.Conv2d(16, 16, 1), BLOCK.parse(text)
    lowered, precision = lower(layer, setting)
    weight, before = (module.weight.detach().numpy() for module in (lowered, layer))
    assert precision == FLOAT
    assert setting.pattern.sparsity(weight) == pytest.approx(setting.blocks.percent / 100)
    norms = setting.pattern.norms(before)
    kept = setting.pattern.norms(weight) > 0
    assert norms[kept].min() > norms[~kept].max()
    assert (layer.weight != 0).all()


def test_counts_have_a_mask_bit_for_each_block() -> None:
    layer = Layer("c", CONV, "Conv", (8, 4, 4), (6, 4, 4), (6, 8, 3, 3), bias=True, macs=16 * 432)
    assert counts(layer, BLOCK.parse("4x1@50%")) == Counts(
        216 * 32 + 6 * 32, 216, 2 * 8 * 9, {32: 16 * 216}, {32: 16 * 216}
    )
    assert counts(layer, LTP.parse("1x1@50%")).mask_bits == 432
    assert counts(layer, LTP.parse("dense")).mask_bits == 0


def test_what_the_contract_calls_the_zeros() -> None:
    assert feature(LTP.parse("")) == "unstructured zeros"
    assert feature(BLOCK.parse("")) == "block zeros"


def test_another_methods_setting() -> None:
    with pytest.raises(BadInput, match="is not a setting of ltp or block_ltp"):
        counts(Layer("c", CONV, "Conv", (), ()), int8.parse(""))


def test_blocks_are_compared_as_batch_norm_will_scale_them_and_single_weights_are_not() -> None:
    """The paper's threshold is on the squared weight itself; four outputs of a block have four scales."""
    net = nn.Sequential(nn.Conv2d(2, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([3.0] * 4 + [1.0] * 4))
    model = capture(net, (2, 2, 2))
    scales = {
        name: METHODS[name].apply(model, {"0": METHODS[name].parse("")}).thresholds["0"].scale.flatten()
        for name in ("ltp", "block_ltp")
    }
    np.testing.assert_allclose(scales["ltp"], np.ones(8))
    np.testing.assert_allclose(scales["block_ltp"], [3.0] * 4 + [1.0] * 4, rtol=1e-4)
    assert BLOCK.parse("").pattern == BlockPattern(4, 1)
