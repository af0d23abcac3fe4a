"""`block_ltp`: blocks that execute, priced in milliseconds."""

from shoestring.compress.ltp import blocks
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.pattern import BlockPattern

LAYERS = (
    Layer("stem", CONV, "Conv", (), (), (16, 3, 3, 3)),
    Layer("project", CONV, "Conv", (), (), (24, 16, 1, 1)),
    Layer("head", LINEAR, "Linear", (), (), (10, 24)),
)


def test_every_layer_that_loses_something_is_timed_in_its_pattern() -> None:
    found = blocks.assign(LAYERS, blocks.parse("4x1@80%:head=2x1@10%"))
    assert blocks.priced(found) == {"project": BlockPattern(4, 1), "head": BlockPattern(2, 1)}


def test_options_are_blocks_that_the_layer_can_hold() -> None:
    narrow = Layer("fc", LINEAR, "Linear", (9,), (2,), (2, 9))
    assert {str(option).split(":")[1].split("@")[0] for option in blocks.options(narrow, None)} == {"2x1"}
    assert blocks.options(Layer("d", DEPTHWISE, "Conv", (), (), (8, 1, 3, 3), groups=8), None) == ()


def test_the_patent_is_told() -> None:
    assert "US 11,704,571 B2" in blocks.CARD.legal
