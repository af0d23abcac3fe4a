"""Timeline: written and read again, and what its frames come to."""

import json
from typing import Any

import pytest

from shoestring.core.errors import BadInput
from shoestring.core.timeline import Summary, Timeline, Turn, summary

TURNS = (
    Turn(0, 12.0, 10.0, True, at_s=0.0),
    Turn(1, 8.0, 10.0, False, at_s=0.1, busy=2),
    Turn(0, 10.0, 10.0, False, given_up=True, at_s=0.2),
    Turn(0, 3.0, 10.0, False, exited=True, at_s=0.3),
)
TIMELINE = Timeline("x.shoe", 10.0, ("point 0", "point 1"), TURNS, (60.0, 70.0))


def test_what_is_written_is_read() -> None:
    assert Timeline.from_json(json.loads(json.dumps(TIMELINE.to_json()))) == TIMELINE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"title": "x"}, "timeline has no deadline_ms"),
        (TIMELINE.to_json() | {"turns": [{"point": 0.5}]}, r"timeline.turns\[0\] has no ms"),
        (TIMELINE.to_json() | {"load": []}, "timeline has the unknown field 'load'"),
    ],
)
def test_anything_else_is_refused(data: Any, words: str) -> None:
    with pytest.raises(BadInput, match=f"^{words}.*; write the file again with this version$"):
        Timeline.from_json(data)


def test_the_summary_counts() -> None:
    assert summary(TURNS, (60.0, 70.0)) == Summary(4, 0.25, 62.5, 2, 0.25, 0.25)
    assert summary(TURNS, warm_up=2) == Summary(2, 0.0, None, 0, 0.5, 0.5)
    with pytest.raises(BadInput, match="4 frames with 4 to warm up leave none"):
        summary(TURNS, warm_up=4)
