"""Costs between measured shares, against straight lines drawn by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput

HALF = Cost((0.0, 0.5, 0.9), (10.0, 4.0, 2.0))


@pytest.mark.parametrize(
    ("share", "ms", "slope"),
    [(0, 10, 12), (0.25, 7, 12), (0.5, 4, 5), (0.7, 3, 5), (0.9, 2, 5), (1.0, 2, 5)],
)
def test_on_straight_lines(share: float, ms: float, slope: float) -> None:
    assert HALF.at(share) == pytest.approx(ms)
    assert HALF.slope(share) == pytest.approx(slope)


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_zeros_never_make_it_slower(ms: list[float], one: float, other: float) -> None:
    cost = Cost(tuple(i / len(ms) for i in range(len(ms))), tuple(ms))
    assert cost.ms == tuple(min(ms[: i + 1]) for i in range(len(ms)))
    assert cost.at(max(one, other)) <= cost.at(min(one, other))
    assert cost.slope(one) >= 0


@pytest.mark.parametrize(
    ("zeros", "ms"),
    [
        ((), ()),
        ((0.0,), (1.0,)),
        ((0.0, 0.5), (1.0,)),
        ((0.1, 0.5), (1.0, 1.0)),
        ((0.0, 0.0), (1.0, 1.0)),
        ((0.0, 1.5), (1.0, 1.0)),
        ((0.0, 0.5), (1.0, -1.0)),
        ((0.0, 0.5), (math.nan, 1.0)),
        ((0.0, 0.5), (math.inf, 1.0)),
    ],
)
def test_what_is_no_measurement(zeros: tuple[float, ...], ms: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="no measurement of rising shares"):
        Cost(zeros, ms)
