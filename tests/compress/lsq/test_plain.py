"""What is special about `lsq`: its defaults and its configurations. The rest is in `test_method.py`."""

import pytest

from shoestring.compress.lsq import plain
from shoestring.compress.lsq.settings import Bits, Lsq
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR


def test_the_defaults() -> None:
    assert plain.parse("") == plain.DEFAULT == Lsq("lsq", Bits(8, 8), 1, "mean")
    assert plain.CARD.trains and set(plain.CARD.kinds) == {CONV, DEPTHWISE, LINEAR}


def test_it_has_its_own_configurations() -> None:
    assert [plain.parse(f"config{i}").config for i in (1, 2)] == [1, 2]
    for text in ("config3", "config4"):
        with pytest.raises(BadInput, match=rf"unknown setting '{text}'.*config1\|config2"):
            plain.parse(text)
