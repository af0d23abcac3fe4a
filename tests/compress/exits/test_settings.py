"""What a user writes about exits."""

import pytest

from shoestring.compress.exits.settings import Exits, parse
from shoestring.core.errors import BadInput


def test_words_in_any_order_and_back() -> None:
    assert parse("") == Exits(2, (), 0.5)
    assert parse("3") == Exits(3)
    assert parse("lose=1.5:at=blocks.1,add") == Exits(2, ("blocks.1", "add"), 1.5)
    for exits in (Exits(4, lose=0), Exits(1, ("stem",), 2.0)):
        assert parse(str(exits).partition(":")[2]) == exits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "give 1 to 4 exits"),
        ("5", "give 1 to 4 exits"),
        ("two", "cannot read 'two'"),
        ("n=2", "cannot read 'n=2'"),
        ("2:3", "says twice"),
        ("lose=1:lose=2", "says twice"),
        ("2:at=a", "says twice where"),
        ("at=a:2", "says twice where"),
        ("at=", "give 1 to 4 places"),
        ("at=a,a", "each once"),
        ("lose=-1", "points from 0 to 100"),
        ("lose=nan", "points from 0 to 100"),
        ("lose=little", "points from 0 to 100"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=f"^exits: .*{said}"):
        parse(text)
