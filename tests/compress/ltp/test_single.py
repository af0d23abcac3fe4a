"""`ltp`: single weights, by their number."""

import pytest

from shoestring.compress.ltp import single
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, OTHER, Layer


def test_nothing_is_timed() -> None:
    """No stock runtime is faster for single zeros; the penalty counts weights."""
    assert single.priced({"a": single.parse("1x1@80%")}) == {}


def test_shares_to_choose_from() -> None:
    conv = Layer("c", CONV, "Conv", (), (), (8, 8, 3, 3))
    assert [str(option) for option in single.options(conv, None)] == [
        f"ltp:1x1@{percent}%:t0.05" for percent in (50, 70, 80, 90)
    ]
    assert single.options(Layer("a", OTHER, "Add", (), ()), None) == ()


def test_the_patent_is_told() -> None:
    assert "US 11,704,571 B2" in single.CARD.legal


def test_an_onnx_file_has_nothing_to_learn() -> None:
    with pytest.raises(BadInput, match="ltp: thresholds are learned, for which it needs a torch model"):
        single.keep({}, {"a": single.parse("")})
