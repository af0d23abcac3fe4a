"""Pictures as inline SVG.

Horizontal positions are percentages, vertical ones pixels, and there is no viewBox: a picture takes the width it is
given, on a phone as on a desk, and its letters and strokes keep their size. Colours are classes of `page.css`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shoestring.core.receipt import FAILS, HOLDS
from shoestring.report.markup import Markup, element
from shoestring.report.wording import fixed, interval, number, shorten, times

_ROW, _TEXT, _BAR, _THICK = 44, 14, 22, 12  # a row: its height, its text's baseline, its bar's top and thickness


@dataclass(frozen=True)
class Bar:
    """`text` is what the value is called, `aside` is set beside it in a lighter letter. `low`, `high`: its interval."""

    label: str
    value: float
    text: str
    aside: str = ""
    low: float | None = None
    high: float | None = None
    subject: bool = False


@dataclass(frozen=True)
class Span:
    """A difference with its interval, and the least that was asked for, on one axis."""

    value: float
    low: float
    high: float
    limit: float | None
    unit: str


def percent(value: float, scale: float) -> float:
    """`value` as per cent of the width, where `scale` fills it; what lies beyond ends at the edge."""
    if math.isnan(value) or scale <= 0:
        return 0.0
    return max(0.0, min(100.0, 100 * value / scale))


def bars(key: str, title: str, rows: Sequence[Bar]) -> Markup:
    """Horizontal bars from zero on one scale; an interval is a whisker. `key` is unique in the page."""
    ends = [end for row in rows for end in (row.value, row.high) if end is not None and math.isfinite(end)]
    scale = max(ends, default=0.0)
    shapes: list[Markup] = []
    for index, row in enumerate(rows):
        top = index * _ROW
        shapes += _heading(row.label, row.text, row.aside, top, row.subject)
        shapes.append(_rect(0, percent(row.value, scale), top, "subject" if row.subject else "original"))
        if row.low is not None and row.high is not None:
            shapes += _whisker(percent(row.low, scale), percent(row.high, scale), top + _BAR + _THICK / 2)
    told = "; ".join(f"{row.label}: {row.text} {row.aside}".rstrip() for row in rows)
    return picture(key, title, told, len(rows) * _ROW, shapes)


def waterfall(key: str, title: str, ends: tuple[str, str], factors: Mapping[str, float]) -> Markup:
    """How factors of speed take time away, one after the other. `ends`: what the first and the last bar are called.
    The first bar is the baseline's time, 100 %."""
    levels = [1.0]
    for factor in factors.values():
        levels.append(levels[-1] / factor if factor > 0 else levels[-1])
    scale = max(levels)
    shapes = [*_heading(ends[0], "100 %", "", 0, False), _rect(0, percent(1.0, scale), 0, "original")]
    for index, (name, factor) in enumerate(factors.items(), start=1):
        top = index * _ROW
        before, after = percent(levels[index - 1], scale), percent(levels[index], scale)
        slower = " slower" if factor < 1 else ""
        shapes.append(line(before, top - _ROW + _BAR + _THICK, before, top + _BAR, "join"))
        shapes += _heading(name, times(factor) + slower, "", top, False)
        shapes.append(_rect(min(before, after), abs(before - after), top, "loss" if slower else "gain"))
    top, last = (len(factors) + 1) * _ROW, percent(levels[-1], scale)
    shapes.append(line(last, top - _ROW + _BAR + _THICK, last, top + _BAR, "join"))
    shapes += [*_heading(ends[1], f"{number(100 * levels[-1])} %", "", top, True), _rect(0, last, top, "subject")]
    told = ", ".join(f"{name} {times(factor)}" for name, factor in factors.items())
    return picture(key, title, f"Factors: {told}. Left of the time: {number(100 * levels[-1])} %.", top + _ROW, shapes)


def span(key: str, title: str, data: Span) -> Markup:
    """A difference and its interval between the original (zero) and the limit, beyond which the ground is tinted."""
    limits = [] if data.limit is None else [data.limit]
    marks = [mark for mark in (0.0, data.low, data.high, data.value, *limits) if math.isfinite(mark)]
    reach = max(marks) - min(marks) or 1.0
    start = min(marks) - 0.12 * reach

    def at(value: float) -> float:
        return percent(value - start, 1.24 * reach)

    low, high, middle = at(data.low), at(data.high), 30 if data.limit is None else 62
    interval_ = element(
        "rect", x=f"{low:.3f}%", y=middle - 5, width=f"{high - low:.3f}%", height=10, rx=5, class_="interval"
    )
    shapes = [line(0, middle, 100, middle, "axis"), interval_]
    told = f"Difference {fixed(data.value, signed=True)} {data.unit}, "
    told += f"95 % interval {interval(data.low, data.high, signed=True)}"
    if data.limit is not None:
        edge, name = at(data.limit), f"limit {fixed(data.limit, signed=True)}"
        beyond = element("rect", x=0, y=middle - 26, width=f"{edge:.3f}%", height=52, class_="beyond")
        shapes = [beyond, *shapes, line(edge, middle - 34, edge, middle + 26, "limit")]
        shapes.append(_label(edge, middle - 42, name, "quiet"))
        told += f", {name}"
    shapes += [
        line(at(0), middle - 26, at(0), middle + 34, "zero"),
        _label(at(0), middle + 50, "original", "quiet"),
        element("circle", cx=f"{at(data.value):.3f}%", cy=middle, r=7, class_="point"),
    ]
    return picture(key, title, f"{told}.", middle + 58, shapes)


def thin_bars(bars_: Sequence[tuple[str, float]], scale: float) -> Markup:
    """Thin bars below each other, each with its class. The numbers stand beside it, so readers of text skip it."""
    shapes = [
        element("rect", x=0, y=1 + 7 * index, width=f"{percent(value, scale):.3f}%", height=5, rx=1, class_=kind)
        for index, (kind, value) in enumerate(bars_)
    ]
    return element("svg", *shapes, width="100%", height=7 * len(bars_), aria_hidden="true")


def mark(verdict: str) -> Markup:
    """The sign of a verdict: a tick, a cross, or a wave for all that is not known."""
    paths = {HOLDS: "M6 12.5l4 4 8-9", FAILS: "M7 7l10 10M17 7L7 17"}
    path = element("path", d=paths.get(verdict, "M4 13c3-6 5-6 8 0s5 6 8 0"), fill="none")
    return element("svg", path, viewBox="0 0 24 24", width=36, height=36, aria_hidden="true", class_="mark")


def picture(key: str, title: str, told: str, height: float, shapes: Sequence[Markup]) -> Markup:
    """The frame of a picture: `title` and `told` are what those get who cannot see it."""
    named = element("title", title, id=f"{key}-title"), element("desc", told, id=f"{key}-desc")
    labels = {"aria_labelledby": f"{key}-title", "aria_describedby": f"{key}-desc"}
    return element("svg", *named, *shapes, width="100%", height=f"{height:g}", role="img", class_="picture", **labels)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=f"{x1:.3f}%", y1=f"{y1:g}", x2=f"{x2:.3f}%", y2=f"{y2:g}", class_=kind)


def words(x: float, y: float, text: str, kind: str, anchor: str) -> Markup:
    """A text on its baseline `y`; `anchor`: which of its ends is at `x` per cent (start, middle, end)."""
    return element("text", text, x=f"{x:.3f}%", y=f"{y:g}", text_anchor=anchor, class_=kind)


def _heading(label: str, text: str, aside: str, top: float, subject: bool) -> list[Markup]:
    """The line above a bar: what it is on the left, its value on the right."""
    kind = "strong" if subject else None
    value = element("tspan", text, class_="strong", dx=10 if aside else None)
    beside = element("tspan", aside, class_="quiet") if aside else None
    return [
        element("text", shorten(label, 27), x=0, y=top + _TEXT, class_=kind),
        element("text", beside, value, x="100%", y=top + _TEXT, text_anchor="end"),
    ]


def _rect(left: float, width: float, top: float, kind: str) -> Markup:
    return element("rect", x=f"{left:.3f}%", y=top + _BAR, width=f"{width:.3f}%", height=_THICK, rx=2, class_=kind)


def _whisker(low: float, high: float, middle: float) -> list[Markup]:
    caps = [line(end, middle - 5, end, middle + 5, "whisker") for end in (low, high)]
    return [line(low, middle, high, middle, "whisker"), *caps]


def _label(x: float, y: float, text: str, kind: str) -> Markup:
    """A text at `x` per cent that stays inside the picture."""
    return words(x, y, text, kind, "start" if x < 15 else "end" if x > 85 else "middle")
