"""A plane with two linear axes, where what a network costs lies against what it is worth.

Its axes are those of `report.svg`: per cent across, pixels down.
"""

import math
from collections.abc import Iterator, Sequence

from shoestring.report.markup import Markup, element
from shoestring.report.svg import line, words

DOT, LETTER = 6.0, 8.0  # pixels: radius of a dot, half a number
_LEFT, _RIGHT = 9.0, 97.0  # per cent: where the axes begin and end
_TOP, _BOTTOM = 30.0, 320.0  # pixels
_PHONE = 3.4  # pixels of a per cent, on a picture on a phone
_CHARACTER = 4.0  # pixels: half of one in a word
_STEPS = (1, 2, 5)

Box = tuple[float, float, float, float]


class Plane:
    """`across`, `up`: what must have a place on each axis, one value at least; `room`: the share of an axis that stays
    free at either end."""

    height = _BOTTOM + 48

    def __init__(self, across: Sequence[float], up: Sequence[float], room: float = 0.06):
        self._across, self._up = _ends(across, room), _ends(up, room)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Per cent across and pixels down."""
        return _between(x, self._across, _LEFT, _RIGHT), _between(y, self._up, _BOTTOM, _TOP)

    def grid(self, across: str, up: str) -> Iterator[Markup]:
        """Round numbers along both axes, and what the axes are called."""
        for value in marks(*self._across):
            x, _ = self.at(value, 0)
            yield line(x, _TOP, x, _BOTTOM, "grid")
            yield words(x, _BOTTOM + 20, f"{value:g}", "quiet", "middle")
        for value in marks(*self._up):
            _, y = self.at(0, value)
            yield line(_LEFT, y, _RIGHT, y, "grid")
            yield words(_LEFT - 1, y + 5, f"{value:g}", "quiet", "end")
        yield words(_LEFT, _TOP - 12, up, "quiet", "start")
        yield words(_RIGHT, _BOTTOM + 40, across, "quiet", "end")

    def level(self, value: float, name: str, anchor: str = "end") -> Iterator[Markup]:
        """A dashed line across, with its name at one end."""
        _, y = self.at(0, value)
        yield line(_LEFT, y, _RIGHT, y, "join")
        yield words(_RIGHT if anchor == "end" else _LEFT + 1, y - 7, name, "quiet", anchor)


def dot(place: tuple[float, float], told: str, kind: str = "point") -> Markup:
    """A dot that tells what it is to whoever points at it."""
    return element("circle", element("title", told), cx=f"{place[0]:.3f}%", cy=f"{place[1]:.1f}", r=DOT, class_=kind)


def box(place: tuple[float, float], across: float = DOT, down: float = DOT) -> Box:
    """What a thing covers, on a phone: its middle and half its extents, in pixels."""
    return place[0] * _PHONE, place[1], across, down


def labels(
    texts: Sequence[str], places: Sequence[tuple[float, float]], taken: Sequence[Box], kind: str = "strong"
) -> tuple[list[Markup], list[Box]]:
    """Words beside their dots where they touch nothing that is `taken`, on a phone neither; the first finds its place
    first, and one that finds none is left out. With what they cover, and what was taken before."""
    drawn, covered = [], list(taken)
    for text, (x, y) in zip(texts, places, strict=True):
        half = max(LETTER, _CHARACTER * len(text))
        for dx, dy in ((0, 17), (0, -17), (half + 10, 0), (-half - 10, 0)):
            mine = (x * _PHONE + dx, y + dy, half, LETTER)
            if _inside(mine) and not any(_touch(mine, other) for other in covered):
                covered.append(mine)
                at = {"x": f"{x:.3f}%", "y": f"{mine[1] + 5:g}", "dx": f"{dx:g}"}
                drawn.append(element("text", text, **at, text_anchor="middle", class_=kind))
                break
    return drawn, covered


def _inside(mine: Box) -> bool:
    x, y, half, _ = mine
    left, right = _LEFT * _PHONE - LETTER, 100 * _PHONE + LETTER
    return left < x - half and x + half < right and _TOP < y < _BOTTOM - LETTER


def _touch(one: Box, other: Box) -> bool:
    return abs(one[0] - other[0]) < one[2] + other[2] and abs(one[1] - other[1]) < one[3] + other[3]


def _ends(values: Sequence[float], share: float) -> tuple[float, float]:
    """The least and the largest, a little apart from each other."""
    low, high = min(values), max(values)
    room = share * (high - low) if low < high else 0.5
    return low - room, high + room


def _between(value: float, ends: tuple[float, float], start: float, end: float) -> float:
    low, high = ends
    return start + (value - low) / (high - low) * (end - start)


def marks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, four to nine of them."""
    power = 10.0 ** math.floor(math.log10(high - low) - 1)
    step = next(s * p for p in (power, 10 * power) for s in _STEPS if (high - low) / (s * p) <= 8)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
