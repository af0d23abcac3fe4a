"""What is said of a deadline, while it runs and at the end."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from shoestring.cli import live
from shoestring.cli.live import line, require_picture, show, timeline_of, told, write_timeline
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.core.timeline import Timeline, Turn

POINTS = (Point("a.onnx", measured={"quality": 60}), Point("b.onnx", measured={"quality": 70.0}))
TURNS = [Turn(0, 5.0, 33.0, False), Turn(1, 40.0, 33.0, True, busy=2), Turn(1, 20.0, 33.0, False)]


@dataclass
class Answered:
    turn: Turn | None


@pytest.mark.parametrize(
    ("text", "ms"), [("33ms", 33.0), ("0.1s", 100.0), ("5", 5.0), (" 2.5 ms ", 2.5), (".5s", 500.0)]
)
def test_times(text: str, ms: float) -> None:
    assert live._milliseconds(text) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["", "fast", "-3ms", "0ms", "3 min", "inf", "1e3ms"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadInput, match="is no time; write 33ms"):
        live._milliseconds(text)


def test_a_line_a_frame() -> None:
    assert line(TURNS[0], 1, 0) == "frame 1: point 0, 5.0 of 33 ms; 0 late"
    assert line(TURNS[1], 2, 1) == "frame 2: point 1, 40.0 of 33 ms late; 1 late, 2 processes beside it"
    assert " sure;" in line(Turn(0, 5.0, 33.0, False, exited=True), 1, 0)
    assert " in time;" in line(Turn(0, 33.0, 33.0, False, given_up=True), 1, 0)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_line_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    out = io.StringIO()
    monkeypatch.setattr(live, "Console", lambda **_: Console(file=out, force_terminal=terminal, width=90))
    answers = [Answered(TURNS[0]), Answered(None), Answered(TURNS[1])]
    assert list(show(answers)) == answers
    assert ("frame 1: point 0" in out.getvalue()) == terminal


def test_quality_is_known_of_all_points_or_of_none() -> None:
    found = timeline_of("folder/x.shoe", POINTS, 33.0, TURNS)
    assert found == Timeline("x.shoe", 33.0, ("point 0", "point 1"), tuple(TURNS), (60.0, 70.0))
    assert timeline_of("x.shoe", (*POINTS, Point("c.onnx", measured={"quality": "high"})), 33.0, TURNS).quality == ()


def test_the_sum() -> None:
    assert list(told(timeline_of("x.shoe", POINTS, 33.0, TURNS))) == [
        "3 frames, 1 late (33.33 %), mean quality 66.67; the point changed 1 times",
        "  point 0: 33.3 % of the frames, median 5.0 ms, p99 5.0 ms",
        "  point 1: 66.7 % of the frames, median 40.0 ms, p99 40.0 ms",
    ]


def test_the_timeline_is_written_as_its_name_says(tmp_path: Path) -> None:
    timeline = timeline_of("x.shoe", POINTS, 33.0, TURNS)
    for suffix, start in ((".html", "<!doctype html>"), (".svg", "<svg"), (".json", "{")):
        require_picture(tmp_path / f"x{suffix}")
        write_timeline(tmp_path / f"x{suffix}", timeline)
        assert (tmp_path / f"x{suffix}").read_text().startswith(start)
    assert Timeline.from_json(json.loads((tmp_path / "x.json").read_text())) == timeline
    write_timeline(None, timeline)
    require_picture(None)
    with pytest.raises(BadInput, match=r"x\.png: a timeline is written as one of \.html, \.svg, \.json"):
        require_picture(tmp_path / "x.png")
    with pytest.raises(BadInput, match="there is no folder"):
        require_picture(tmp_path / "absent" / "x.svg")
