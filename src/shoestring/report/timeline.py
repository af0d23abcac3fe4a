"""The timeline of a deadline: the latency of every frame, by which point, under which load; as a page or a picture.

Up to `_SINGLE` frames are dots; of more, each of `_COLUMNS` slices of time has a line a point from its shortest to its
longest frame. Frames that were late are always marked one by one.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from shoestring.core.timeline import Timeline, Turn, summary
from shoestring.report.markup import Markup, element
from shoestring.report.page import facts, header, page, section, table
from shoestring.report.plane import Plane
from shoestring.report.svg import line, picture, words
from shoestring.report.wording import number

_SINGLE, _COLUMNS, _MOST_LATE = 1200, 420, 1000
_HEADROOM, _HIGHEST = 1.25, 3.0  # of the deadline: the least and the most that the axis shows
_STRIP, _GAP = 14, 56  # pixels: the strip of points, and how far below the axis it is
_WIDTH = 1100  # of a picture by itself
_STYLE = Path(__file__).with_name("page.css")


def timeline_html(timeline: Timeline) -> str:
    """One self-contained document in the look of the receipt."""
    headings = ["point", ">frames", ">share", ">median ms", ">p99 ms", ">longest ms", ">late"]
    if timeline.quality:
        headings.insert(1, ">quality")
    caption = "Grey bands: other processes take the cores. Red rings: frames that were late."
    return page(
        f"Timeline of {timeline.title}",
        header("timeline", timeline.title, f"A deadline of {timeline.deadline_ms:g} ms for every frame."),
        facts(_numbers(timeline)),
        section(
            "Frame by frame",
            element("p", *_key(timeline), class_="key"),
            element("figure", lapse(timeline), element("figcaption", caption)),
        ),
        section("Points", table("What each point took", headings, list(_rows(timeline)))),
    )


def timeline_svg(timeline: Timeline) -> str:
    """The picture as a file of its own."""
    drawn, height = lapse(timeline), _height() + 40
    inside = (
        element("style", Markup(_STYLE.read_text(encoding="utf-8") + "\nsvg { font-family: sans-serif; }")),
        element("rect", width="100%", height="100%", style="fill: var(--paper)"),
        *_legend(timeline),
        element("svg", drawn, x=20, y=32, width=_WIDTH - 40, height=height - 32),
    )
    around = {"xmlns": "http://www.w3.org/2000/svg", "width": _WIDTH, "height": height}
    return f"{element('svg', *inside, **around)}\n"


def lapse(timeline: Timeline) -> Markup:
    """Milliseconds against seconds, in the colour of the point; the load as bands, the deadline as a dashed line, and
    below it a strip of the points."""
    turns, deadline = timeline.turns, timeline.deadline_ms
    top = min(max(_HEADROOM * deadline, max(turn.ms for turn in turns)), _HIGHEST * deadline)
    end = max(turns[-1].at_s + turns[-1].ms / 1000, 1e-3)
    plane = Plane([0.0, end], [0.0, top], room=0.0)
    (_, floor), (_, ceiling), (_, at) = plane.at(0, 0), plane.at(0, top), plane.at(0, deadline)
    shapes: list[Markup] = []
    for start, stop in _loaded(turns, end):
        (left, _), (right, _) = plane.at(start, 0), plane.at(stop, 0)
        where = {"x": f"{left:.3f}%", "width": f"{right - left:.3f}%", "y": f"{ceiling:g}"}
        shapes.append(element("rect", **where, height=f"{floor - ceiling:g}", class_="band"))
    shapes += plane.grid("seconds", "ms of a frame")
    for point in range(len(timeline.points)):
        drawn = _dots(plane, turns, point, top) if len(turns) <= _SINGLE else _lines(plane, turns, point, top, end)
        shapes.append(element("g", *drawn, style=_tone(point, len(timeline.points))))
    shapes += (_late(plane, turn, top) for turn in [turn for turn in turns if turn.missed][:_MOST_LATE])
    shapes.append(line(9, at, 97, at, "limit"))
    shapes.append(words(97, ceiling - 12, f"dashed: the deadline, {deadline:g} ms", "quiet", "end"))
    shapes += _strip(plane, timeline, end, floor + _GAP)
    found = summary(turns, timeline.quality)
    told = f"{found.frames} frames, {round(found.missed * found.frames)} late, in {number(end)} seconds"
    return picture("timeline", f"Latency of every frame against {deadline:g} ms", told, _height(), shapes)


def _height() -> float:
    return Plane.height + _STRIP + 24


def _dots(plane: Plane, turns: tuple[Turn, ...], point: int, top: float) -> Iterator[Markup]:
    for turn in turns:
        if turn.point == point:
            x, y = plane.at(turn.at_s, min(turn.ms, top))
            yield element("circle", cx=f"{x:.3f}%", cy=f"{y:.1f}", r=2.2, class_="tone")


def _lines(plane: Plane, turns: tuple[Turn, ...], point: int, top: float, end: float) -> Iterator[Markup]:
    slices: dict[int, list[float]] = defaultdict(list)
    for turn in turns:
        if turn.point == point:
            slices[min(_COLUMNS - 1, int(turn.at_s / end * _COLUMNS))].append(min(turn.ms, top))
    for column, ms in slices.items():
        (x, low), (_, high) = plane.at((column + 0.5) / _COLUMNS * end, min(ms)), plane.at(0, max(ms))
        yield line(x, low + 1, x, high - 1, "lapse")


def _late(plane: Plane, turn: Turn, top: float) -> Markup:
    x, y = plane.at(turn.at_s, min(turn.ms, top))
    named = element("title", f"point {turn.point}: {number(turn.ms)} ms after {number(turn.at_s)} s")
    return element("circle", named, cx=f"{x:.3f}%", cy=f"{y:.1f}", r=4.5, class_="late")


def _strip(plane: Plane, timeline: Timeline, end: float, y: float) -> Iterator[Markup]:
    """Stretches of time in the colour of the point that most of their frames had."""
    counts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for turn in timeline.turns:
        counts[min(_COLUMNS - 1, int(turn.at_s / end * _COLUMNS))][turn.point] += 1
    stretches: list[list[int]] = []  # point, from, to
    for column in sorted(counts):
        point = max(counts[column], key=counts[column].__getitem__)
        if stretches and stretches[-1][0] == point:
            stretches[-1][2] = column + 1
        else:
            if stretches:
                stretches[-1][2] = column  # where no frame began, the one before went on
            stretches.append([point, column, column + 1])
    for point, start, stop in stretches:
        (left, _), (right, _) = (plane.at(column / _COLUMNS * end, 0) for column in (start, stop))
        where = {"x": f"{left:.3f}%", "width": f"{right - left:.3f}%", "y": f"{y:g}", "height": _STRIP}
        yield element("rect", **where, class_="tone", style=_tone(point, len(timeline.points)))
    yield words(8, y + _STRIP - 2, "point", "quiet", "end")


def _loaded(turns: tuple[Turn, ...], end: float) -> Iterator[tuple[float, float]]:
    """When other processes were busy: (from, to) in seconds."""
    start: float | None = None
    for turn in turns:
        if turn.busy and start is None:
            start = turn.at_s
        elif not turn.busy and start is not None:
            yield start, turn.at_s
            start = None
    if start is not None:
        yield start, end


def _tone(point: int, points: int) -> str:
    """From the cheapest to the richest, one colour into another."""
    share = 100 * point / max(1, points - 1)
    return f"--tone: color-mix(in oklch, var(--accent) {share:.0f}%, var(--doubt))"


def _key(timeline: Timeline) -> Iterator[Markup]:
    for point, name in enumerate(timeline.points):
        dot = element("circle", cx=6, cy=6, r=5, class_="tone", style=_tone(point, len(timeline.points)))
        swatch = element("svg", dot, width=12, height=12, aria_hidden="true")
        yield element("span", swatch, f"{_named(timeline, point, name)} of the frames")


def _legend(timeline: Timeline) -> Iterator[Markup]:
    x = 20.0
    for point, name in enumerate(timeline.points):
        text = _named(timeline, point, name)
        yield element("circle", cx=x + 5, cy=18, r=5, class_="tone", style=_tone(point, len(timeline.points)))
        yield element("text", text, x=x + 16, y=23, class_="quiet")
        x += 44 + 7.6 * len(text)


def _named(timeline: Timeline, point: int, name: str) -> str:
    count = sum(turn.point == point for turn in timeline.turns)
    return f"{name}: {100 * count / len(timeline.turns):.0f} %"


def _numbers(timeline: Timeline) -> Iterator[tuple[str, str, str]]:
    found = summary(timeline.turns, timeline.quality)
    late = round(found.missed * found.frames)
    yield "Late", f"{100 * found.missed:.2f} %", f"{late} of {found.frames} frames"
    if found.quality is not None:
        ends = f"{number(min(timeline.quality))} to {number(max(timeline.quality))}"
        yield "Mean quality", f"{found.quality:.2f}", f"of the answers handed out; the points have {ends}"
    yield "Changes", str(found.changes), "of the point from frame to frame"
    yield "Given up", f"{100 * found.given_up:.2f} %", "a richer answer that did not come in time"
    if found.exited:
        yield "Sure early", f"{100 * found.exited:.1f} %", "of the frames needed no richer point"


def _rows(timeline: Timeline) -> Iterator[list[str]]:
    for point, name in enumerate(timeline.points):
        turns = [turn for turn in timeline.turns if turn.point == point]
        ms = sorted(turn.ms for turn in turns)
        share = f"{100 * len(turns) / len(timeline.turns):.1f} %"
        figures = (ms[len(ms) // 2], ms[math.ceil(0.99 * len(ms)) - 1], ms[-1]) if ms else (None, None, None)
        late = str(sum(turn.missed for turn in turns))
        worth = [number(timeline.quality[point])] if timeline.quality else []
        yield [name, *worth, str(len(turns)), share, *map(number, figures), late]
