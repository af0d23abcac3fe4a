"""A governor, or a fixed point, on a recorded trace: which point each frame gets, what it takes, what is late.

A trace is what the machine did: how much slower it was from when on, or what every point took in every frame. As JSON:

    {"expected_ms": [5, 10, 20], "quality": [60, 70, 75], "steps": [[0, 1], [4, 2.5], [8, 1]]}
    {"expected_ms": [5, 10, 20], "quality": [60, 70, 75], "frames": [[5.1, 10.3, 20.2], [12.0, 25.1, 49.0]]}

`steps`: [seconds, slow-down from then on]. `frames`: ms of every point, frame by frame. Equal
traces give equal results.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.schema import parse_json
from shoestring.core.timeline import Turn
from shoestring.deploy.archive import read_file
from shoestring.deploy.governor import Governor

_ALWAYS = ("expected_ms", "quality")


@dataclass(frozen=True)
class Trace:
    """`expected_ms`, `quality`: of each point. Either `steps` or `frames`, as above."""

    expected_ms: tuple[float, ...]
    quality: tuple[float, ...]
    steps: tuple[tuple[float, float], ...] = ()
    frames: tuple[tuple[float, ...], ...] = ()

    def take(self, point: int, frame: int, at_s: float) -> float:
        """Milliseconds of `point` in `frame`, started `at_s` seconds after the first."""
        if self.frames:
            return self.frames[frame % len(self.frames)][point]
        return _through(self.steps, self.expected_ms[point], at_s)


def simulate(
    trace: Trace, deadline_ms: float, frames: int, policy: Governor | int, period_ms: float = 0.0
) -> list[Turn]:
    """`policy`: a governor, which learns, or the point to take always. `period_ms`: a frame comes as often (0: when the
    one before is done)."""
    found: list[Turn] = []
    now = 0.0
    for index in range(frames):
        if isinstance(policy, Governor):
            frame, busy_ms = _governed(trace, policy, index, now)
        else:
            busy_ms = trace.take(policy, index, now)
            frame = Turn(policy, busy_ms, deadline_ms, busy_ms > deadline_ms, at_s=now)
        found.append(frame)
        now = max(now + busy_ms / 1000, math.floor(now * 1000 / period_ms + 1) * period_ms / 1000 if period_ms else now)
    return found


def read_trace(path: str | Path) -> Trace:
    """Raises BadInput, in one line naming the file, for what is no trace."""
    try:
        return _trace(parse_json(read_file(path)))
    except ValueError as error:
        raise BadInput(f"{path}: no trace: {error}; see deploy/simulate.py") from None


def _governed(trace: Trace, governor: Governor, index: int, now: float) -> tuple[Turn, float]:
    """The frame, and how long the machine was busy with it."""
    deadline, point = governor.deadline_ms, governor.choose()
    if not governor.net:
        ms = trace.take(point, index, now)
        governor.observe(point, ms)
        return Turn(point, ms, deadline, ms > deadline, at_s=now), ms
    first = governor.cheapest
    under = trace.take(first, index, now)
    if under + governor.likely_ms(point, (first, under)) > deadline:
        governor.observe(first, under)
        return Turn(first, under, deadline, under > deadline, at_s=now), under
    over = trace.take(point, index, now + under / 1000)
    governor.observe(first, under, aside=under + over <= deadline)
    if under + over > deadline:
        governor.observe(point, deadline - under, finished=False)
        return Turn(first, deadline, deadline, False, given_up=True, at_s=now), deadline
    governor.observe(point, over)
    governor.compare(point, over, first, under)
    return Turn(point, under + over, deadline, False, at_s=now), under + over


def _through(steps: Sequence[tuple[float, float]], work_ms: float, at_s: float) -> float:
    """How long `work_ms` of the idle machine take from `at_s` on, across changes of the load."""
    now, left = at_s * 1000, work_ms
    for (start, factor), end in zip(steps, [*(step[0] for step in steps[1:]), math.inf], strict=True):
        if end * 1000 <= now:
            continue
        now = max(now, start * 1000)
        if now + left * factor <= end * 1000:
            return now + left * factor - at_s * 1000
        left -= (end * 1000 - now) / factor
        now = end * 1000
    raise AssertionError("the last step has no end")


def _trace(data: Any) -> Trace:
    if not isinstance(data, dict) or set(data) not in ({*_ALWAYS, "steps"}, {*_ALWAYS, "frames"}):
        raise ValueError(f"it must have the keys {', '.join(_ALWAYS)} and one of steps, frames")
    kept = {name: _numbers(data[name], name) for name in _ALWAYS}
    if len(kept["expected_ms"]) != len(kept["quality"]) or min(kept["expected_ms"], default=0) <= 0:
        raise ValueError("expected_ms and quality must have a value for each point, times above 0")
    name = "steps" if "steps" in data else "frames"
    rows = tuple(_numbers(row, name) for row in data[name]) if isinstance(data[name], list) else ()
    width = 2 if name == "steps" else len(kept["quality"])
    if not rows or any(len(row) != width for row in rows):
        raise ValueError(f"{name} must be rows of {width} numbers")
    if name == "frames":
        if min(map(min, rows)) <= 0:
            raise ValueError("a time is not above 0")
        return Trace(kept["expected_ms"], kept["quality"], frames=rows)
    steps = tuple((row[0], row[1]) for row in rows)
    if steps[0][0] != 0 or any(one[0] >= other[0] for one, other in pairwise(steps)):
        raise ValueError("steps must begin at 0 s and go on in time")
    if min(factor for _, factor in steps) <= 0:
        raise ValueError("a slow-down is not above 0")
    return Trace(kept["expected_ms"], kept["quality"], steps=steps)


def _numbers(values: Any, name: str) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"{name} is no list of numbers")
    return tuple(values)
