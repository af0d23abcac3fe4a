"""The heads, as outputs of the graph."""

import pytest
import torch
from torch import fx, nn

from shoestring.compress.exits.heads import first_layer, with_exits
from shoestring.compress.exits.places import chosen, places, work
from shoestring.compress.exits.settings import parse
from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold


def test_the_network_stays_and_each_exit_is_what_its_layers_compute(branched: fx.GraphModule) -> None:
    found = chosen(branched, parse("at=stem,mul"))
    gm = with_exits(branched, found, work(branched))
    x = torch.randn(5, 3, 8, 8)
    outputs, first, second = gm(x)
    torch.testing.assert_close(outputs, branched(x))
    head = list(gm.get_submodule("exit_0").children())
    read = nn.Sequential(*branched.get_submodule("stem").children())(x)
    by_hand = head[3](nn.functional.silu(head[1](head[0](read))).mean((2, 3)))
    torch.testing.assert_close(first, by_hand)
    assert first.shape == second.shape == outputs.shape == (5, 4)
    assert isinstance(gm.get_submodule(first_layer(1)), nn.Conv2d)
    assert isinstance(head[2], nn.SiLU)  # as most of the network


def test_norms_fold_and_the_first_weights_are_always_the_same(branched: fx.GraphModule) -> None:
    found = chosen(branched, parse("at=stem,mul"))
    one, other = (with_exits(branched, found, work(branched)) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    folded = fold(one)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for a, b in zip(folded(torch.ones(1, 3, 8, 8)), one(torch.ones(1, 3, 8, 8)), strict=True):
        torch.testing.assert_close(a, b)


def test_heads_are_as_wide_as_is_affordable(branched: fx.GraphModule) -> None:
    found = chosen(branched, parse("at=stem"))
    wide, narrow = (with_exits(branched, found, work).get_submodule(first_layer(0)) for work in (10**9, 0))
    assert (wide.out_channels, narrow.out_channels) == (32, 8)


def test_outputs_that_are_no_class_scores() -> None:
    dense = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    gm = capture(dense, (3, 8, 8))
    with pytest.raises(BadInput, match=r"outputs \[4, 8, 8\] are no class scores"):
        with_exits(gm, places(gm)[:1], 0)
