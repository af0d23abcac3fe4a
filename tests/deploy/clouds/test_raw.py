"""Counts from a header, before memory is taken for them."""

import pytest

from shoestring.deploy.clouds.raw import MAX_POINTS, require_count, whole


def test_a_count_that_fits() -> None:
    assert require_count(3, 4, 12) == 3
    assert require_count(0, 4, 0) == 0


@pytest.mark.parametrize(
    ("count", "there", "message"),
    [(-1, 100, "-1 points"), (MAX_POINTS + 1, 2**40, "at most"), (4, 15, "4 points promised, the file ends before")],
)
def test_a_count_that_does_not(count: int, there: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_count(count, 4, there)


def test_whole_numbers() -> None:
    assert whole("12") == whole(b"12") == 12
    for text in ("", "-1", "1.5", "1e9", "9" * 13):
        with pytest.raises(ValueError, match="no whole number"):
            whole(text)
