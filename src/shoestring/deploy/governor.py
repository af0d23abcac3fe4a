"""The governor: which operating point the next frame is given, so that its answer is in time. Pure policy: no clock, no
thread; told what frames took, it says what to run.

**One slow-down for all points.** A frame of point i takes `expected_ms[i] * exp(x)`. The machine's slow-down x is
common to all points, so that what one is seen to take predicts all others (the global slow-down factor of ALERT, Wan et
al. 2020, arXiv 1911.00119, which follows it with a Kalman filter). What a point's expected time is wrong by itself is
learnt only when it and another are seen under the same load: in one frame, or in the frame after a step upward.

**Two tails.** `near` is where the next frame ends in all but one or two of a hundred: a level plus 1.5 mean deviations
from it, both exponential averages that rise fast and fall slowly (the form of a network's retransmission timer,
Jacobson 1988; with these rates 1 to 2 % of independent normal, Laplace and t(3) noise lies beyond, and a fifth beyond
the level alone). When a load has gone it does not wait for the level to fall: `_GONE` frames in a row, each below it by
more than the mean deviation, are a machine of another speed, whose level is the worst of them and whose deviation is
what it was before. (4: a load of three times is forgotten in 5 frames instead of 20, and of that noise 0.1 % more lies
beyond `near`; 3 would let 0.5 % more lie beyond, 2 even 2 to 3 %.) `near` knows nothing of a load that is about to
come. `far` does: the largest but one of the last 2 / `miss` slow-downs, i.e. their (1 - `miss`)-quantile. Loads that
come so rarely that their surprises stay within `miss` are forgotten in between; those that come more often are not.
What not even the cheapest point would have survived is left out: no choice could have helped.

**Two ways to take a point.** *Alone* it must be in time at the worse of both tails. *Over a net* (`net`), an earlier
answer (the cheapest point's, or an exit's of a chain) comes first, which must be in time at the worse of both tails,
and both together at the level; a surprise then costs quality and no deadline, because whoever runs the frame hands out
the earlier answer when time is up (anytime networks, as in ALERT). Who waits may wake late on a busy machine, so that
the richer point is not begun where the earlier answer itself shows that a load has come (`seen` of `likely_ms`). A
probe is therefore never a risk: upward goes either a point that is safe alone, or one over a net. A point that is safe
alone is taken so where no net can be had, or where it would be safe on a machine twice as slow as was ever seen: the
worst is not known after a short time.

**Falling and rising.** Down at once, to the richest point that either way allows. Up by one point, after that one has
been allowed for `HOLD` frames in a row with 10 % to spare; over a net by as many as have been, since what one is seen
to take predicts all, and who waits at each of them has lost seconds of a calm before it is at the top. Alone by one,
since what is expected of a point that never ran may be wrong by more than is spared. A probe that fails, i.e. a fall
within `_PROBE` frames, doubles the hold of that point, up to `MOST_HOLD` frames; a fall after a longer stay, when a
load came, undoes that. So a boundary that noise moves cannot flap often, and a load that comes and goes keeps nothing
down.

**Limits.** `limit` caps the index (heat, battery: `deploy/signals.py`). Points that cost more than another and are
worth no more are never taken. When no point is predicted to be in time, the cheapest is taken.
"""

import bisect
import math
from collections import deque
from collections.abc import Sequence

from shoestring.core.errors import BadInput
from shoestring.core.rungs import pareto

HOLD, MOST_HOLD = 8, 128  # frames
_PROBE = 32  # frames
_SPARE = 1.1  # times slower, before a step upward
_SURE = 2.0  # times slower, before a net that could be had is not taken
_RISE, _FALL = (0.5, 0.25), (0.1, 0.1)  # rates of the mean and of the deviation
_DEVIATIONS = 1.5
_FIRST_DEVIATION = 0.1
_GONE = 4  # frames
_LEARN, _MOST_CORRECTION = 0.05, math.log(2)


class Governor:
    """`expected_ms`: of each point on the idle machine. `quality`: of each, in one unit, higher is better; without it a
    later point is better. `netted_ms`: of each with an earlier answer underneath, which is that of the point in `under`
    (by default the cheapest); None takes points only alone. `miss`: the share of frames that may be late. Raises
    BadInput for what are no times."""

    def __init__(
        self,
        expected_ms: Sequence[float],
        deadline_ms: float,
        quality: Sequence[float] | None = None,
        *,
        netted_ms: Sequence[float] | None = None,
        under: Sequence[int] | None = None,
        miss: float = 0.001,
    ):
        _check(expected_ms, deadline_ms, quality, netted_ms, miss)
        self.deadline_ms, self.expected_ms = deadline_ms, tuple(expected_ms)
        self.limit: int | None = None
        self.net = False
        self._netted = None if netted_ms is None else tuple(netted_ms)
        self._ladder = pareto(expected_ms, range(len(expected_ms)) if quality is None else quality)
        self._under = [self.cheapest] * len(self.expected_ms) if under is None else list(under)
        self._place = 0  # in the ladder
        self._stayed = 0  # frames in a row, as are the next two
        self._allowed = [0] * len(self._ladder)
        self._hold = [HOLD] * len(self._ladder)
        self._level, self._deviation = 0.0, _FIRST_DEVIATION
        self._correction = [0.0] * len(expected_ms)
        self._below: list[tuple[float, float]] = []  # frames in a row below the level, and the deviations before them
        self._seen: deque[float] = deque(maxlen=round(2 / miss))
        self._sorted: list[float] = []
        self._risen = False

    def choose(self, spent_ms: float = 0.0) -> int:
        """The point for the next frame, of whose deadline `spent_ms` are gone; sets `net`. `spent_ms` alone lowers this
        frame only."""
        top = self._top()
        self._move(top, spent_ms)
        here = min(self._place, top)
        while here and not self._fits(here, spent_ms):
            here -= 1
        safe, sure = self._alone(here, spent_ms), self._alone(here, spent_ms, _SURE)
        self.net = here > 0 and not sure and (not safe or self._over_net(here, spent_ms, _SPARE))
        return self._ladder[here]

    def observe(self, point: int, ms: float, finished: bool = True, aside: bool = False) -> None:
        """What a point took. Not `finished`: it was given up after `ms`, and would have taken longer. `aside`: a richer
        one of the same frame says more about the load, of which short runs are a noisy sample."""
        x = self._slow_down(point, ms)
        if not finished and x <= self._level:
            return
        if self._ms(self.cheapest, x) <= self.deadline_ms:
            self._remember(x)
        if aside:
            return
        if self._risen and finished and point == self._ladder[self._place]:
            self._correct(point, x - self._level)
        self._risen = False
        if self._gone(x):
            return
        error = x - self._level
        self._level += (_RISE if error > 0 else _FALL)[0] * error
        apart = abs(error) - self._deviation
        self._deviation += (_RISE if apart > 0 else _FALL)[1] * apart

    def compare(self, point: int, ms: float, other: int, other_ms: float) -> None:
        """Two points of one frame, under the same load: what `point` is expected to take relative to `other`."""
        self._correct(point, self._slow_down(point, ms) - self._slow_down(other, other_ms))

    def likely_ms(self, point: int, seen: tuple[int, float] | None = None) -> float:
        """What the point will take in about four of five frames like the last ones, and like this frame where that is
        slower: `seen` is a point that has run in it, and the ms that took."""
        return self._ms(point, self._level if seen is None else max(self._level, self._slow_down(*seen)))

    @property
    def cheapest(self) -> int:
        """The point whose answer is the net."""
        return self._ladder[0]

    @property
    def near(self) -> float:
        """Logarithm of the slow-down that the next frame stays below, while the load is what it is."""
        return self._level + _DEVIATIONS * self._deviation

    @property
    def far(self) -> float:
        """The same for a load that may be about to come."""
        return self._sorted[-2] if len(self._sorted) > 1 else -math.inf

    def _move(self, top: int, spent_ms: float) -> None:
        if self._place > top:
            self._place, self._stayed = top, 0
        fallen = self._place
        while fallen and not self._fits(fallen, 0.0):
            fallen -= 1
        if fallen < self._place:
            failed = self._stayed <= _PROBE  # a load that comes later says nothing against the point
            self._hold[self._place] = min(2 * self._hold[self._place], MOST_HOLD) if failed else HOLD
            self._place, self._stayed = fallen, 0
            self._allowed = [0] * len(self._ladder)
        self._stayed += 1
        for place in range(self._place + 1, len(self._ladder)):
            fits = self._fits if place == self._place + 1 else self._over_net
            self._allowed[place] = self._allowed[place] + 1 if place <= top and fits(place, spent_ms, _SPARE) else 0
        waited = (place for place in range(self._place + 1, top + 1) if self._allowed[place] > self._hold[place])
        if (highest := max(waited, default=self._place)) > self._place:
            self._place, self._stayed, self._risen = highest, 0, True

    def _gone(self, x: float) -> bool:
        """Whether a load has: then the level is that of the last frames."""
        if x >= self._level - self._deviation:
            self._below.clear()
            return False
        self._below.append((x, self._deviation))
        if len(self._below) < _GONE:
            return False
        self._level, self._deviation = max(x for x, _ in self._below), self._below[0][1]
        self._below.clear()
        return True

    def _top(self) -> int:
        """The highest place in the ladder that the limit leaves."""
        if self.limit is None:
            return len(self._ladder) - 1
        return max((place for place, point in enumerate(self._ladder) if point <= self.limit), default=0)

    def _fits(self, place: int, spent_ms: float, spare: float = 1.0) -> bool:
        return self._alone(place, spent_ms, spare) or self._over_net(place, spent_ms, spare)

    def _alone(self, place: int, spent_ms: float, spare: float = 1.0) -> bool:
        return spent_ms + spare * self._ms(self._ladder[place], max(self.near, self.far)) <= self.deadline_ms

    def _over_net(self, place: int, spent_ms: float, spare: float) -> bool:
        point = self._ladder[place]
        if self._netted is None:
            return False
        if spent_ms + self._ms(self._under[point], max(self.near, self.far)) > self.deadline_ms:
            return False
        more = self._netted[point] / self.expected_ms[point]
        return spent_ms + spare * more * self.likely_ms(point) <= self.deadline_ms

    def _slow_down(self, point: int, ms: float) -> float:
        """Its logarithm."""
        return math.log(max(ms, 1e-6) / self.expected_ms[point]) - self._correction[point]

    def _ms(self, point: int, x: float) -> float:
        return self.expected_ms[point] * math.exp(self._correction[point] + x)

    def _correct(self, point: int, by: float) -> None:
        found = self._correction[point] + _LEARN * by
        self._correction[point] = min(_MOST_CORRECTION, max(-_MOST_CORRECTION, found))

    def _remember(self, x: float) -> None:
        if len(self._seen) == self._seen.maxlen:
            del self._sorted[bisect.bisect_left(self._sorted, self._seen[0])]
        self._seen.append(x)
        bisect.insort(self._sorted, x)


def _check(
    expected_ms: Sequence[float],
    deadline_ms: float,
    quality: Sequence[float] | None,
    netted_ms: Sequence[float] | None,
    miss: float,
) -> None:
    if not expected_ms or not all(0 < ms < math.inf for ms in (*expected_ms, *(netted_ms or ()))):
        raise BadInput(f"governor: {list(expected_ms)[:8]} are no times; give ms above 0 for one point at least")
    for what in (quality, netted_ms):
        if what is not None and len(what) != len(expected_ms):
            raise BadInput(f"governor: {len(what)} values for {len(expected_ms)} points; give one for each")
    if not 0 < deadline_ms < math.inf:
        raise BadInput(f"governor: a deadline of {deadline_ms:g} ms is no time; give ms above 0")
    if not 1e-5 <= miss <= 0.5:
        raise BadInput(f"governor: {miss:g} of the frames may be late; give a share in 0.00001..0.5")
