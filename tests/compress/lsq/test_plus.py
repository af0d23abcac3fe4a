"""What is special about `lsq+`: its defaults and its configurations. The rest is in `test_method.py`."""

import pytest

from shoestring.compress.lsq import plus
from shoestring.compress.lsq.settings import Bits, Lsq
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR


def test_the_defaults() -> None:
    assert plus.parse("") == plus.DEFAULT == Lsq("lsq+", Bits(8, 8), 4, "mse")
    assert plus.CARD.trains and set(plus.CARD.kinds) == {CONV, DEPTHWISE, LINEAR}


def test_it_has_its_own_configurations() -> None:
    assert [plus.parse(f"config{i}").config for i in (3, 4)] == [3, 4]
    for text in ("config1", "config2"):
        with pytest.raises(BadInput, match=rf"unknown setting '{text}'.*config3\|config4"):
            plus.parse(text)
