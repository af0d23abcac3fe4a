"""What a user writes after `magnitude:`, and which layer loses what."""

import pytest

from shoestring.compress.magnitude.settings import Magnitude, assign, parse
from shoestring.core.blocks import DENSE, Blocks
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.pattern import BlockPattern

FOUR = BlockPattern(4, 1)


def layer(name: str, *weight: int, groups: int = 1) -> Layer:
    kind = LINEAR if len(weight) == 2 else DEPTHWISE if groups > 1 and weight[1] == 1 else CONV
    return Layer(name, kind, "", (), (), weight, groups=groups)


LAYERS = (
    layer("stem.0", 16, 3, 3, 3),
    layer("blocks.0.depthwise", 16, 1, 3, 3, groups=16),
    layer("blocks.0.project", 24, 16, 1, 1),
    layer("blocks.1.grouped", 24, 8, 3, 3, groups=3),
    layer("blocks.1.project", 16, 24, 1, 1),
    layer("blocks.1.project:2", 16, 24, 1, 1),
    layer("classifier", 10, 16),
)


def written(text: str, layers: tuple[Layer, ...] = LAYERS) -> dict[str, str]:
    return {name: str(setting).removeprefix("magnitude:") for name, setting in assign(layers, parse(text)).items()}


def test_words_in_any_order() -> None:
    wanted = Magnitude(
        Blocks(FOUR, 80), "global", layers=(("blocks.1.*", Blocks(BlockPattern(8, 1), 12.5)), ("x", DENSE))
    )
    for text in ("4x1@80%:global:blocks.1.*=8x1@12.5%:x=dense", "blocks.1.*=8x1@12.5%:global:x=dense:4x1@80.0%"):
        assert parse(text) == wanted
    assert parse("uniform") == Magnitude(scope="uniform")
    assert str(parse("4x1@80%")) == "magnitude:4x1@80%:global"


def test_the_ends_and_depthwise_layers_stay_dense() -> None:
    dense = "dense:uniform"
    assert written("4x1@80%") == {
        "stem.0": dense,
        "blocks.0.depthwise": dense,
        "blocks.0.project": "4x1@80%:global",
        "blocks.1.grouped": "4x1@80%:global",
        "blocks.1.project": "4x1@80%:global",
        "blocks.1.project:2": "4x1@80%:global",
        "classifier": dense,
    }


def test_layers_that_are_named_lose_their_own_share() -> None:
    found = written("4x1@80%:blocks.1.*=4x1@50%:blocks.1.project=dense:*.depthwise=1x1@10%:classifier=2x4@5%")
    assert found == {
        "stem.0": "dense:uniform",
        "blocks.0.depthwise": "1x1@10%:uniform",
        "blocks.0.project": "4x1@80%:global",
        "blocks.1.grouped": "4x1@50%:uniform",
        "blocks.1.project": "dense:uniform",
        "blocks.1.project:2": "dense:uniform",
        "classifier": "2x4@5%:uniform",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("16x1@50%", "blocks of 16x1 do not fit blocks.1.grouped, which is 8x8 in each group; "
         "write blocks.1.grouped=8x1@50% or blocks.1.grouped=dense"),
        ("4x1@50%:*.depthwise=4x1@50%", "do not fit blocks.0.depthwise, which is 1x1 in each group; "
         "write blocks.0.depthwise=1x1@50%"),
        ("dense:stem.0=1x4@50%", "do not fit stem.0, which is 16x3; write stem.0=1x3@50% or stem.0=dense"),
        ("4x1@50%:nowhere=dense", "no layer is called 'nowhere'; layers are stem.0, blocks.0.depthwise, "),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_the_nearest_that_does(text: str, reason: str) -> None:
    with pytest.raises(BadInput) as refused:
        assign(LAYERS, parse(text))
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_one_threshold_leaves_something_of_every_layer() -> None:
    assert parse("4x1@95%:global").blocks.percent == 95
    assert parse("4x1@99%:uniform").blocks.percent == 99
    with pytest.raises(BadInput, match="one threshold for all leaves every layer 5 %; write at most 95%, or uniform"):
        parse("4x1@96%")


@pytest.mark.parametrize("text", ["uniform:global", "4x1@50%:4x1@50%", "dense:4x1@50%"])
def test_what_is_said_twice(text: str) -> None:
    with pytest.raises(BadInput, match="twice; write it once"):
        parse(text)
