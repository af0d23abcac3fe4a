"""A deadline as it is kept: the line in the terminal while it runs, what is said at the end, the timeline."""

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from shoestring.cli.options import require_places, write_text
from shoestring.core.errors import BadInput
from shoestring.core.timeline import Timeline, Turn, summary

if TYPE_CHECKING:
    from shoestring.core.ladder import Ladder

_EVERY_S = 0.1  # between two looks of the line
_UNITS = {"": 1.0, "ms": 1.0, "s": 1000.0}
_PICTURES = (".html", ".svg", ".json")


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|)\s*", text)
    if not match or float(match[1]) <= 0:
        raise BadInput(f"--deadline {text}: is no time; write 33ms or 0.1s")
    return float(match[1]) * _UNITS[match[2]]


Milliseconds = Annotated[
    float | None, typer.Option(parser=_milliseconds, metavar="TIME", help="Of each frame, without decoding: 33ms.")
]


class Answered(Protocol):
    @property
    def turn(self) -> Turn | None: ...


A = TypeVar("A", bound=Answered)


def require_picture(path: Path | None) -> None:
    """Raises BadInput when the timeline could not be written there, before anything runs for it."""
    if path is not None and path.suffix.lower() not in _PICTURES:
        raise BadInput(f"{path}: a timeline is written as one of {', '.join(_PICTURES)}")
    require_places(path)


def show(answers: Iterable[A]) -> Iterator[A]:
    """Passes the answers on, with a line on standard error on how it goes; silent when that is no terminal."""
    error = Console(stderr=True, highlight=False)
    if not error.is_terminal:
        yield from answers
        return
    missed = frames = 0
    looked = 0.0
    # No thread of its own: it would take time from the frames.
    with Live(console=error, transient=True, auto_refresh=False) as live:
        for answer in answers:
            yield answer
            if (turn := answer.turn) is None:
                continue
            frames, missed, now = frames + 1, missed + turn.missed, time.monotonic()
            if now - looked > _EVERY_S:
                live.update(Text(line(turn, frames, missed)), refresh=True)
                looked = now


def line(turn: Turn, frames: int, missed: int) -> str:
    """One frame, and all so far."""
    late = " late" if turn.missed else " sure" if turn.exited else " in time" if turn.given_up else ""
    beside = f", {turn.busy} processes beside it" if turn.busy else ""
    return f"frame {frames}: point {turn.point}, {turn.ms:.1f} of {turn.deadline_ms:g} ms{late}; {missed} late{beside}"


def timeline_of(file: str | Path, points: "Ladder", deadline_ms: float, turns: Sequence[Turn]) -> Timeline:
    quality = [point.measured.get("quality") for point in points]
    known = tuple(float(value) for value in quality if isinstance(value, int | float))
    names = tuple(f"point {index}" for index in range(len(points)))
    return Timeline(Path(file).name, deadline_ms, names, tuple(turns), known if len(known) == len(points) else ())


def told(timeline: Timeline) -> Iterator[str]:
    """What is said at the end, a line each."""
    found = summary(timeline.turns, timeline.quality)
    late = round(found.missed * found.frames)
    worth = "" if found.quality is None else f", mean quality {found.quality:.2f}"
    share = f"{late} late ({100 * found.missed:.2f} %)"
    yield f"{found.frames} frames, {share}{worth}; the point changed {found.changes} times"
    for index, name in enumerate(timeline.points):
        ms = sorted(turn.ms for turn in timeline.turns if turn.point == index)
        if ms:
            part, middle, high = len(ms) / found.frames, ms[len(ms) // 2], ms[math.ceil(0.99 * len(ms)) - 1]
            yield f"  {name}: {100 * part:.1f} % of the frames, median {middle:.1f} ms, p99 {high:.1f} ms"


def write_timeline(path: Path | None, timeline: Timeline) -> None:
    """As a page, a picture, or data, as the name says."""
    if path is None:
        return
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps(timeline.to_json(), indent=1) + "\n")
        return
    from shoestring.report.timeline import timeline_html, timeline_svg  # only a picture needs it

    write_text(path, timeline_html(timeline) if path.suffix.lower() == ".html" else timeline_svg(timeline))
