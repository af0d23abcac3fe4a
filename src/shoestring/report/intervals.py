"""Means with their intervals, one below the other on one axis: what overlaps cannot be told apart."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shoestring.report.markup import Markup, element
from shoestring.report.plane import marks
from shoestring.report.svg import line, percent, picture, words
from shoestring.report.wording import interval, shorten

_ROW, _TEXT, _MIDDLE, _AXIS = 46, 14, 29, 26  # pixels: a row, its text's baseline, its dot, the axis below the last
_ROOM = 0.04


@dataclass(frozen=True)
class Mean:
    """`value` in words is `text`; `plain` ones are there to be compared with and drawn hollow."""

    label: str
    value: float
    low: float
    high: float
    text: str
    plain: bool = False


def intervals(key: str, title: str, rows: Sequence[Mean]) -> Markup:
    """A dot a row with its 95 % interval, over round numbers that run through all rows. `key` is unique in the page;
    at least one row."""
    ends = [end for row in rows for end in (row.low, row.high, row.value) if math.isfinite(end)] or [0.0]
    low, high = min(ends), max(ends)
    room = _ROOM * (high - low) or 0.5
    low, reach = low - room, high - low + 2 * room
    bottom = len(rows) * _ROW

    shapes: list[Markup] = []
    for value in marks(low, low + reach):
        x = percent(value - low, reach)
        shapes.append(line(x, 0, x, bottom, "grid"))
        shapes.append(words(x, bottom + 18, f"{value:g}", "quiet", "start" if x < 5 else "end" if x > 95 else "middle"))
    for index, row in enumerate(rows):
        shapes += _row(row, index * _ROW, low, reach)
    told = "; ".join(f"{row.label}: {row.text}, {interval(row.low, row.high)}" for row in rows)
    return picture(key, title, told, bottom + _AXIS, shapes)


def _row(row: Mean, top: float, start: float, reach: float) -> Iterator[Markup]:
    left, right, x = (percent(end - start, reach) for end in (row.low, row.high, row.value))
    middle = top + _MIDDLE
    yield element("text", shorten(row.label, 34), x=0, y=top + _TEXT, class_=None if row.plain else "strong")
    yield words(100, top + _TEXT, row.text, "strong", "end")
    width = f"{max(0.0, right - left):.3f}%"
    band = {"x": f"{left:.3f}%", "y": f"{middle - 4:g}", "width": width, "height": 8, "rx": 4}
    yield element("rect", **band, class_="band" if row.plain else "interval")
    told = element("title", f"{row.label}: {row.text}, 95 % interval {interval(row.low, row.high)}")
    yield element("circle", told, cx=f"{x:.3f}%", cy=f"{middle:g}", r=6, class_="hollow" if row.plain else "point")
