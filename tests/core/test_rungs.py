"""Which points a ladder keeps, against all choices there are."""

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoestring.core.rungs import pareto, rungs

POINTS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=9)


def worth(ms: list[float], quality: list[float], chain: tuple[int, ...]) -> float:
    """The integral of the best quality within a deadline over its logarithm, from the first to the last."""
    return sum(quality[one] * math.log(ms[then] / ms[one]) for one, then in pairwise(chain))


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    ms, quality = [float(a) for a, _ in points], [float(b) for _, b in points]
    found = pareto(ms, quality)
    for index, (time, good) in enumerate(points):
        beaten = any(a <= time and b >= good and (a, b) != (time, good) for a, b in points)
        same = [(ms[i], quality[i]) for i in found]
        assert ((time, good) in same) == (not beaten), index
    assert len({(ms[i], quality[i]) for i in found}) == len(found)
    assert [ms[i] for i in found] == sorted(ms[i] for i in found)


@settings(max_examples=150, deadline=None)
@given(POINTS, st.integers(1, 6))
def test_no_other_choice_serves_more(points: list[tuple[int, int]], count: int) -> None:
    ms, quality = [float(a) for a, _ in points], [float(b) for _, b in points]
    front, found = pareto(ms, quality), rungs(ms, quality, count)
    assert set(found) <= set(front)
    assert len(found) == min(count, len(front))
    assert found[-1] == front[-1]
    if len(found) > 1:
        assert found[0] == front[0]
        others = [(front[0], *middle, front[-1]) for middle in combinations(front[1:-1], len(found) - 2)]
        assert worth(ms, quality, tuple(found)) == pytest.approx(max(worth(ms, quality, own) for own in others))
