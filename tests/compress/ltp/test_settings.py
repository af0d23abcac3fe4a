"""What a user writes after `ltp:` and `block_ltp:`."""

import pytest

from shoestring.compress import METHODS
from shoestring.compress.ltp.settings import Ltp
from shoestring.core.blocks import Blocks
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, LINEAR, Layer
from shoestring.core.pattern import BlockPattern

LAYERS = (
    Layer("stem", CONV, "", (), (), (16, 3, 3, 3)),
    Layer("a.project", CONV, "", (), (), (24, 16, 1, 1)),
    Layer("a.project:2", CONV, "", (), (), (24, 16, 1, 1)),
    Layer("head", LINEAR, "", (), (), (10, 24)),
)


def test_words_in_any_order() -> None:
    wanted = Ltp("block_ltp", Blocks(BlockPattern(4, 4), 60), 0.1, 0.5, (("a.*", Blocks(BlockPattern(8, 1), 50)),))
    for text in ("4x4@60%:t0.1:lambda0.5:a.*=8x1@50%", "a.*=8x1@50%:lambda0.5:4x4@60.0%:t1e-1"):
        assert METHODS["block_ltp"].parse(text) == wanted
    assert str(METHODS["ltp"].parse("t0.001")) == "ltp:1x1@80%:t0.001"


def test_each_layer_has_its_own() -> None:
    method = METHODS["block_ltp"]
    found = method.assign(LAYERS, method.parse("4x1@80%:head=2x1@10%"))
    assert {name: str(setting) for name, setting in found.items()} == {
        "stem": "block_ltp:dense:t0.05",
        "a.project": "block_ltp:4x1@80%:t0.05",
        "a.project:2": "block_ltp:4x1@80%:t0.05",
        "head": "block_ltp:2x1@10%:t0.05",
    }


@pytest.mark.parametrize(
    ("method", "text", "reason"),
    [
        ("ltp", "4x1@50%", "4x1@50% is for block_ltp; write --method block_ltp:4x1@50%"),
        ("block_ltp", "1x1@50%", "1x1@50% is for ltp; write --method ltp:1x1@50%"),
        ("block_ltp", "2:4", "N:M has no threshold to learn; write --method magnitude:2:4"),
        ("ltp", "1x1@99%", "asks for more than 95 %; write at most 1x1@95%"),
        ("ltp", "t0", "has no temperature; write t0.05"),
        ("ltp", "t0.1:t0.2", "says temperature twice; write it once"),
    ],
)
def test_what_is_refused(method: str, text: str, reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        METHODS[method].parse(text)
    assert reason in str(refused.value)
