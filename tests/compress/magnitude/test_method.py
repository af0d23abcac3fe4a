"""What is special about magnitude: masks of folded weights, exact zeros, and what nothing was taken from."""

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.compress import magnitude
from shoestring.compress.method import Weight
from shoestring.core.counts import Counts
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, LINEAR, Layer
from shoestring.core.pattern import BlockPattern
from shoestring.core.precision import FLOAT
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold

RNG = np.random.default_rng(0)


def settings(**texts: str) -> dict[str, magnitude.Magnitude]:
    return {name: magnitude.parse(text) for name, text in texts.items()}


def weight(*shape: int, scale: float = 1.0) -> Weight:
    return Weight((scale * RNG.standard_normal(shape)).astype(np.float32))


def test_a_share_for_each_layer_or_one_threshold() -> None:
    given = {"a": weight(16, 16), "b": weight(16, 16, scale=9)}
    apart = magnitude.keep(given, settings(a="4x1@50%:uniform", b="4x1@50%:uniform"))
    assert [(~mask).mean() for mask in apart.values()] == [0.5, 0.5]
    together = magnitude.keep(given, settings(a="4x1@50%", b="4x1@50%"))
    assert [(~mask).sum() for mask in together.values()] == [240, 16]  # 95 % of 256 are 243, in blocks of four 240
    assert all(BlockPattern(4, 1).sparsity(given[name].values * mask) > 0 for name, mask in together.items())


def test_layers_without_a_share_are_not_touched() -> None:
    given = {name: weight(8, 8) for name in "abc"}
    assert list(magnitude.keep(given, settings(a="dense", b="1x1@10%"))) == ["b"]


def test_nothing_removed_says_so() -> None:
    given = {"a": weight(8, 8)}
    for text in ("dense", "8x8@90%"):  # less than one block
        with pytest.warns(NoEffectWarning, match="magnitude removed no weight"):
            magnitude.keep(given, settings(a=text))
    zeros = {"a": Weight(np.repeat([[0.0, 1.0]], 8, axis=0).astype(np.float32))}
    with pytest.warns(NoEffectWarning, match="magnitude removed no weight"):
        magnitude.keep(zeros, settings(a="4x1@50%"))


class Net(nn.Module):
    """A convolution that is called twice, and one under a batch norm that makes some channels large."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 1)
        self.conv, self.norm = nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(self.twice(self.twice(x))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def captured() -> fx.GraphModule:
    model = Net()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([1e-3] * 4 + [1.0] * 4))
    return capture(model.eval(), (4, 8, 8))


def test_folded_weights_are_compared(captured: fx.GraphModule) -> None:
    """The batch norm makes the first four outputs small; they go, and the weights under it become exact zeros."""
    text = "1x1@50%"
    chosen = {"twice": "dense", "twice:2": "dense", "conv": text, "fc": "8x1@25%"}
    applied = magnitude.apply(captured, {name: magnitude.parse(setting) for name, setting in chosen.items()})
    assert applied.precisions == dict.fromkeys(chosen, FLOAT)
    for network in (applied.model, fold(applied.bake())):
        conv = network.get_submodule("conv").weight
        assert (conv[:4] == 0).all()
        assert (conv[4:] != 0).all()
        assert (network.get_submodule("fc").weight == 0).all(0).sum() == 2
    assert (captured.get_submodule("conv").weight != 0).all()


def test_a_layer_of_another_kind(captured: fx.GraphModule) -> None:
    with pytest.raises(BadInput, match="'norm' is not a convolution or linear layer"):
        magnitude.apply(captured, settings(norm="4x1@50%"))
    with pytest.raises(BadInput, match="Net is not captured"):
        magnitude.apply(Net(), {})


def test_lowered_layers_have_their_own_smallest_blocks_at_zero() -> None:
    layer = nn.Conv2d(8, 8, 1)
    lowered, precision = magnitude.lower(layer, magnitude.parse("4x1@75%"))
    assert precision == FLOAT
    assert BlockPattern(4, 1).sparsity(lowered.weight.detach().numpy()) == 0.75
    assert (layer.weight != 0).all()


def test_counts_of_blocks() -> None:
    """Masks have a bit for each block of each tap, ragged ones too."""
    layer = Layer("c", CONV, "Conv", (8, 4, 4), (6, 4, 4), (6, 8, 3, 3), bias=True, macs=16 * 432)
    found = magnitude.counts(layer, magnitude.parse("4x1@50%"))
    assert found == Counts(216 * 32 + 6 * 32, 216, 2 * 8 * 9, {32: 16 * 216}, {32: 16 * 216})
    assert magnitude.counts(layer, magnitude.parse("dense")).mask_bits == 0
    grouped = Layer("g", CONV, "Conv", (8, 4, 4), (6, 4, 4), (6, 4, 1, 1), groups=2, macs=16 * 24)
    assert magnitude.counts(grouped, magnitude.parse("2x2@50%")).mask_bits == 2 * 2 * 2


def test_options_are_blocks_that_the_layer_can_hold() -> None:
    narrow = Layer("fc", LINEAR, "Linear", (9,), (2,), (2, 9))
    assert {str(option).split(":")[1] for option in magnitude.options(narrow, None)} == {
        f"2x1@{percent}%" for percent in (50, 70, 80, 90)
    }


def test_what_the_contract_calls_the_zeros() -> None:
    features = {text: magnitude.feature(magnitude.parse(text)) for text in ("1x1@50%", "4x1@50%", "1x4@50%")}
    assert features == {"1x1@50%": "unstructured zeros", "4x1@50%": "block zeros", "1x4@50%": "block zeros"}
