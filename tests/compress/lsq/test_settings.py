"""What a user writes, and which layer gets what."""

import pytest

from shoestring.compress.lsq import plus
from shoestring.compress.lsq.settings import Bits, Lsq, assign, parse
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, Layer

NAMES = ("stem.0", "blocks.0.conv", "blocks.0.project", "blocks.1.conv", "head")
LAYERS = tuple(Layer(name, CONV, "Conv", (3, 8, 8), (3, 8, 8), (3, 3, 3, 3)) for name in NAMES)


def bits_of(setting: Lsq, layers: tuple[Layer, ...] = LAYERS) -> dict[str, str]:
    return {name: str(one.bits) for name, one in assign(layers, setting).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("w4a4", Lsq("lsq+", Bits(4, 4))),
        ("w2a8", Lsq("lsq+", Bits(2, 8))),
        ("config3:w4a4:min-max:tensor", Lsq("lsq+", Bits(4, 4), 3, "min-max", False)),
        ("channel", Lsq("lsq+")),
        ("w4a4:stem.*=w8a8:head=w6a6", Lsq("lsq+", Bits(4, 4), layers=(("stem.*", Bits(8, 8)), ("head", Bits(6, 6))))),
        ("a=b=w3a3", Lsq("lsq+", layers=(("a=b", Bits(3, 3)),))),
    ],
)
def test_what_is_written(text: str, expected: Lsq) -> None:
    assert plus.parse(text) == expected
    assert plus.parse(str(expected).partition(":")[2]) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("w1a4", "unknown setting 'w1a4'"),
        ("w4a9", "unknown setting 'w4a9'"),
        ("w4", "unknown setting 'w4'"),
        ("config1", "unknown setting 'config1'"),
        ("w4a4:w8a8", "says bits twice"),
        ("mse:mean", "says start twice"),
        ("channel:tensor", "says per_channel twice"),
        ("stem=w9a9", "'w9a9' are no bits"),
        ("stem=", "'' are no bits"),
        ("=w4a4", "unknown setting '=w4a4'"),
        ("w4a4:", "unknown setting ''"),
        ("conv:2=w8a8", "unknown setting 'conv'"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as refused:
        parse(plus.DEFAULT, text)
    assert str(refused.value).startswith("lsq+: ") and "write " in str(refused.value)


def test_the_first_and_the_last_layer_have_eight_bits() -> None:
    expected = dict.fromkeys(NAMES, "w4a4") | {"stem.0": "w8a8", "head": "w8a8"}
    assert bits_of(plus.parse("w4a4")) == expected
    assert bits_of(plus.parse("w4a4"), LAYERS[:1]) == {"stem.0": "w8a8"}
    assert assign((), plus.parse("w4a4")) == {}


def test_bits_by_pattern() -> None:
    """The last pattern that matches counts, for the first and last layer too; the rest of the setting is everyone's."""
    setting = plus.parse("w4a4:config3:mean:tensor:blocks.*=w3a3:*.project=w2a8:head=w5a5")
    assert bits_of(setting) == dict(zip(NAMES, ("w8a8", "w3a3", "w2a8", "w3a3", "w5a5"), strict=True))
    for one in assign(LAYERS, setting).values():
        assert (one.method, one.config, one.start, one.per_channel, one.layers) == ("lsq+", 3, "mean", False, ())
    assert bits_of(plus.parse("w4a4:*=w2a2")) == dict.fromkeys(NAMES, "w2a2")


def test_a_pattern_without_a_layer() -> None:
    with pytest.raises(BadInput, match=r"no layer is called 'block\.\*'; layers are stem\.0, blocks\.0\.conv"):
        assign(LAYERS, plus.parse("block.*=w3a3"))


def test_a_layer_that_is_called_twice_is_one_layer() -> None:
    """The last call of a layer gives all its calls 8 bits: there is one weight."""
    layers = (*LAYERS[:4], Layer("blocks.1.conv:2", CONV, "Conv", (3, 8, 8), (3, 8, 8), (3, 3, 3, 3)))
    found = bits_of(plus.parse("w4a4"), layers)
    assert found["blocks.1.conv"] == found["blocks.1.conv:2"] == "w8a8"
    named = bits_of(plus.parse("w4a4:blocks.1.conv=w2a2"), layers)
    assert named["blocks.1.conv"] == named["blocks.1.conv:2"] == "w2a2"
