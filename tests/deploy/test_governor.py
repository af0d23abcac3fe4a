"""The governor, told by hand what frames took. `test_simulate.py` plays whole traces."""

import math
import random
from itertools import pairwise

import pytest

from shoestring.core.errors import BadInput
from shoestring.deploy.governor import HOLD, MOST_HOLD, Governor

MS, NETTED = (2.0, 5.0, 9.0, 14.0, 20.0), (2.0, 7.0, 11.0, 16.0, 22.0)


def play(governor: Governor, slow_down: float, frames: int, noise: float = 0.0, seed: int = 0) -> list[int]:
    """The points it chose, each taking `slow_down` times its time."""
    rng, chosen = random.Random(seed), []
    for _ in range(frames):
        point = governor.choose()
        chosen.append(point)
        governor.observe(point, MS[point] * slow_down * math.exp(rng.gauss(0, noise)))
    return chosen


@pytest.mark.parametrize("netted", [None, NETTED])
def test_it_starts_cheap_and_climbs_to_the_richest_that_fits(netted: tuple[float, ...] | None) -> None:
    for deadline, richest in ((33.0, 4), (19.0, 3), (12.0, 2), (7.0, 1), (3.0, 0), (1.0, 0)):
        chosen = play(Governor(MS, deadline, netted_ms=netted), 1.0, 200)
        assert chosen[0] == 0
        assert chosen[-1] == richest
        assert chosen == sorted(chosen)  # never down on an idle machine
        assert chosen[:HOLD] == [0] * HOLD


def test_over_a_net_it_does_not_wait_at_every_point() -> None:
    """Alone it does: a point that was never seen may take longer than the file says."""
    over, alone = play(Governor(MS, 33.0, netted_ms=NETTED), 1.0, 60), play(Governor(MS, 33.0), 1.0, 60)
    assert set(over) == {0, 4}
    assert over.index(4) <= 2 * HOLD
    assert all(alone.index(point) >= point * HOLD for point in range(5))


def test_a_load_that_has_gone_is_forgotten_within_frames() -> None:
    """Noise is not taken for it: what lies below the level by turns leaves it where it is."""
    rng, governor = random.Random(0), Governor(MS, 1e6)
    for _ in range(60):
        governor.observe(0, MS[0] * 3 * math.exp(rng.gauss(0, 0.1)))
    loaded = governor.likely_ms(0)
    for frame in range(40):
        governor.observe(0, MS[0] * (3 if frame % 4 == 3 else 2))
    assert governor.likely_ms(0) > 0.8 * loaded
    for _ in range(5):
        governor.observe(0, MS[0] * 1.1)
    assert governor.likely_ms(0) == pytest.approx(1.1 * MS[0], rel=0.05)
    assert governor.near < math.log(1.1) + 0.5  # what it fell by is no noise


def test_a_slow_down_seen_at_one_point_moves_all() -> None:
    """Twice as slow: 14 ms become 28, 20 become 40; without a net nothing else has to be tried."""
    governor = Governor(MS, 33.0)
    assert play(governor, 1.0, 200)[-1] == 4
    later = play(governor, 2.0, 10)
    assert later[0] == 4  # the surprise
    assert max(later[1:]) <= 3
    assert governor.likely_ms(0) == pytest.approx(4.0, rel=0.05)


def test_a_surprise_is_remembered_for_two_over_miss_frames() -> None:
    """Alone, the richest point waits until the load has left the memory; over a net it does not have to."""
    for netted, waits in ((None, True), (NETTED, False)):
        governor = Governor(MS, 33.0, netted_ms=netted, miss=0.01)
        play(governor, 1.0, 100)
        play(governor, 2.2, 30)
        after = play(governor, 1.0, 600)
        back = after.index(4)
        assert (back > 170) == waits
        assert after[-1] == 4
        assert after[back:] == [4] * len(after[back:])


def test_over_a_net_only_where_alone_is_not_safe() -> None:
    governor = Governor(MS, 45.0, netted_ms=NETTED)
    play(governor, 1.0, 200)
    assert (governor.choose(), governor.net) == (4, False)  # twice 20 ms would be in time
    play(governor, 3.0, 30)
    play(governor, 1.0, 100)
    assert (governor.choose(), governor.net) == (4, True)
    tight = Governor(MS, 23.0, netted_ms=NETTED)
    play(tight, 1.0, 200)
    assert (tight.choose(), tight.net) == (4, False)  # 22 ms over a net would be too tight, 20 alone are safe
    play(governor, 30.0, 30)  # now the cheapest point itself is late: there is no net
    assert (governor.choose(), governor.net) == (0, False)


def test_what_no_point_would_have_survived_is_not_held_against_any() -> None:
    governor = Governor(MS, 33.0)
    play(governor, 1.0, 200)
    play(governor, 40.0, 3)
    assert 4 in play(governor, 1.0, 200)


def test_a_point_given_up_counts_as_slow_but_never_as_fast() -> None:
    governor = Governor(MS, 33.0, netted_ms=NETTED)
    play(governor, 1.0, 200)
    before = governor.likely_ms(4)
    governor.observe(4, 10.0, finished=False)  # it may have needed another millisecond, or a hundred
    assert governor.likely_ms(4) == before
    governor.observe(4, 31.0, finished=False)
    assert governor.likely_ms(4) > before
    for _ in range(3):
        governor.observe(4, 31.0, finished=False)
    assert governor.choose() < 4


def test_what_was_seen_in_a_frame_tells_of_the_rest_of_it() -> None:
    governor = Governor(MS, 33.0, netted_ms=NETTED)
    play(governor, 1.0, 200)
    assert governor.likely_ms(4, (0, 3 * MS[0])) == pytest.approx(3 * MS[4])
    assert governor.likely_ms(4, (0, 0.5 * MS[0])) == governor.likely_ms(4) == pytest.approx(MS[4])  # never faster
    for _ in range(200):
        governor.compare(0, 1.5 * MS[0], 3, MS[3])  # what point 0 takes by itself is no load
    assert governor.likely_ms(4, (0, 1.5 * MS[0])) == pytest.approx(MS[4], rel=0.05)


def test_what_a_point_really_takes_is_learnt_where_two_are_seen_together() -> None:
    governor = Governor(MS, 1000.0)
    for _ in range(200):
        governor.compare(4, 1.5 * MS[4], 0, MS[0])
        governor.observe(0, MS[0])
    assert governor.likely_ms(4) == pytest.approx(1.5 * MS[4], rel=0.05)
    assert governor.likely_ms(3) == pytest.approx(MS[3], rel=0.05)
    for _ in range(200):
        governor.compare(4, 100 * MS[4], 0, MS[0])
    assert governor.likely_ms(4) <= 2.01 * MS[4]  # a file that lies is not followed anywhere


def test_time_that_is_gone_lowers_one_frame() -> None:
    governor = Governor(MS, 33.0)
    play(governor, 1.0, 200)
    assert governor.choose(spent_ms=20.0) == 2
    assert governor.choose() == 4


def test_a_limit_caps_the_index() -> None:
    governor = Governor(MS, 33.0)
    play(governor, 1.0, 200)
    governor.limit = 2
    assert set(play(governor, 1.0, 200)) == {2}
    governor.limit = 0
    assert governor.choose() == 0
    governor.limit = None
    assert play(governor, 1.0, 200)[-1] == 4


def test_points_that_cost_more_and_are_worth_no_more_are_never_taken() -> None:
    governor = Governor(MS, 33.0, quality=(60, 70, 65, 71, 71))
    assert set(play(governor, 1.0, 300)) == {0, 1, 3}
    backwards = Governor((20.0, 5.0), 33.0, quality=(70, 60))
    assert backwards.cheapest == 1


def test_a_probe_that_fails_doubles_the_wait_and_a_load_that_comes_later_undoes_that() -> None:
    governor, waited = Governor(MS, 33.0, netted_ms=NETTED), []
    for _ in range(7):
        frames = 0
        while governor.choose() != 4:
            governor.observe(3, MS[3])
            frames += 1
        waited.append(frames)
        while governor.choose() == 4:
            governor.observe(4, 3 * MS[4])
    assert all(later >= MOST_HOLD or later > 1.4 * sooner for sooner, later in pairwise(waited[1:]))
    assert governor._hold[4] == MOST_HOLD
    other = Governor(MS, 33.0, netted_ms=NETTED)
    other._hold[4] = MOST_HOLD
    play(other, 1.0, 500)
    assert other.choose() == 4
    play(other, 3.0, 20)
    assert other._hold[4] == HOLD


def test_noise_lies_beyond_the_near_tail_in_about_one_of_a_hundred() -> None:
    rng, governor, beyond = random.Random(0), Governor((10.0,), 1e6), 0
    for _ in range(20000):
        x = rng.gauss(0, 0.1)
        beyond += x > governor.near
        governor.observe(0, 10.0 * math.exp(x))
    assert 0.005 < beyond / 20000 < 0.02


def test_the_far_tail_is_a_quantile_of_what_was_seen() -> None:
    rng, governor = random.Random(0), Governor((10.0,), 1e6, miss=0.01)
    seen = [rng.gauss(0, 0.1) for _ in range(1000)]
    for x in seen:
        governor.observe(0, 10.0 * math.exp(x))
    assert governor.far == pytest.approx(sorted(seen[-200:])[-2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((), 10.0), "no times"),
        (((1.0, 0.0), 10.0), "no times"),
        (((1.0, math.nan), 10.0), "no times"),
        (((1.0, 2.0), 10.0, (60,)), "1 values for 2 points"),
        (((1.0,), 0.0), "a deadline of 0 ms is no time"),
        (((1.0,), math.inf), "a deadline of inf ms"),
    ],
)
def test_what_is_refused(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Governor(*arguments)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"0\.9 of the frames may be late"):
        Governor((1.0,), 1.0, miss=0.9)
