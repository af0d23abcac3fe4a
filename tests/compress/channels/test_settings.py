"""Settings of `channels`: which layer gets what."""

import pytest

from shoestring.compress import channels
from shoestring.compress.channels.settings import Channels, assign, parse, snapped
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, Layer

LAYERS = [Layer(name, CONV, "Conv", (8, 4, 4), (8, 4, 4), (8, 8, 1, 1)) for name in ("a", "b.0", "b.1", "b.0:2", "c")]


def test_words_come_in_any_order() -> None:
    assert parse("by8:x=dense:25%:y.*=dense") == Channels(25, "uniform", 8, ("x", "y.*"))
    assert parse("dense") == Channels(0)
    assert str(parse("dense")) == "channels:dense:uniform"


def test_the_last_layer_and_those_named_keep_their_outputs() -> None:
    shares = {name: setting.percent for name, setting in assign(LAYERS, parse("25%:b.0=dense")).items()}
    assert shares == {"a": 25, "b.0": 0, "b.1": 25, "b.0:2": 0, "c": 0}


def test_a_pattern_without_a_layer_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^channels: no layer is called 'd\.\*'; layers are a, b\.0, b\.1"):
        assign(LAYERS, parse("25%:d.*=dense"))


def test_what_the_user_wrote_is_not_measured() -> None:
    assert snapped(parse("25%"), 16).multiple == 16
    assert snapped(parse("25%:by8"), 16).multiple == 8
    assert parse(str(snapped(parse("25%"), 16)).partition(":")[2]).multiple == 16


def test_only_its_own_settings() -> None:
    class Other:
        method = "other"

    with pytest.raises(BadInput, match="is not a setting of channels"):
        channels.counts(LAYERS[0], Other())
