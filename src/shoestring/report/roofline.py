"""The roofline picture: multiply-adds a byte against multiply-adds a second, both logarithmic, under the two roofs.

Its axes are those of `report.svg`: per cent across, pixels down.
"""

import math
from collections.abc import Iterator, Sequence

from shoestring.core.profile import Operator, Profile
from shoestring.report.markup import Markup, element
from shoestring.report.svg import line, picture, words
from shoestring.report.wording import number, shorten

LEAST = 0.001  # of the time: operators with less are not drawn
_LEFT, _RIGHT = 8.0, 98.0  # per cent: where the axes begin and end
_TOP, _BOTTOM = 30.0, 380.0  # pixels
_ROOMY = 3  # powers of ten
_NUMBERED = 9
_NARROW, _LETTER = 340.0, 8.0  # pixels: a picture on a phone, half a number


class _Axis:
    """The logarithms of `values`, drawn from `start` to `end` with a little room."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        self.low, self.high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1
        self.start, self.end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def marks(self) -> list[float]:
        """Powers of ten, with 2 and 5 times them where there is room."""
        steps = (1, 2, 5) if self.high - self.low < _ROOMY else (1,)
        powers = range(math.floor(self.low), math.ceil(self.high))
        found = [step * 10.0**power for power in powers for step in steps]
        return [value for value in found if self.low <= math.log10(value) <= self.high]


def drawn(profile: Profile) -> list[tuple[int, Operator]]:
    """The operators that have a place in the picture, each with its rank by time, from 1."""
    ranked = enumerate(profile.operators, start=1)
    return [(rank, item) for rank, item in ranked if item.executed and item.bytes and profile.share(item) >= LEAST]


def roofline(key: str, profile: Profile) -> Markup:
    """A dot an operator, its area its time, the slowest with their rank; the roofs are what the machine can do. `key`
    is unique in the page."""
    shown, roof = drawn(profile), profile.roof
    ridge = roof.gmacs / roof.gigabytes
    across = _Axis([ridge / 3, 3 * ridge, *(item.intensity for _, item in shown)], _LEFT, _RIGHT)
    up = _Axis([roof.gmacs / 10, roof.gmacs, *(item.gmacs for _, item in shown)], _BOTTOM, _TOP)
    shapes = [*_grid(across, up), *_roofs(profile, across, up)]
    shapes += [_dot(profile, item, across, up) for _, item in shown]
    shapes += _ranks(profile, shown, across, up)
    told = f"{len(shown)} operators under {number(roof.gmacs)} GMAC/s and {number(roof.gigabytes)} GB/s. "
    told += "; ".join(f"{rank} {shorten(item.node, 40)}, {_told(item)}" for rank, item in shown[:_NUMBERED])
    return picture(key, "What each operator reaches under the roofs of the machine", told, _BOTTOM + 46, shapes)


def _grid(across: _Axis, up: _Axis) -> Iterator[Markup]:
    for value in across.marks():
        yield line(across.at(value), _TOP, across.at(value), _BOTTOM, "grid")
        yield words(across.at(value), _BOTTOM + 20, f"{value:g}", "quiet", "middle")
    for value in up.marks():
        yield line(_LEFT, up.at(value), _RIGHT, up.at(value), "grid")
        yield words(_LEFT - 1, up.at(value) + 5, f"{value:g}", "quiet", "end")
    yield words(_LEFT, _TOP - 12, "GMAC/s", "quiet", "start")
    yield words(_RIGHT, _BOTTOM + 40, "multiply-adds a byte", "quiet", "end")


def _roofs(profile: Profile, across: _Axis, up: _Axis) -> Iterator[Markup]:
    roof = profile.roof
    ridge = roof.gmacs / roof.gigabytes
    start = 10.0 ** max(across.low, up.low - math.log10(roof.gigabytes))  # where the slope enters the picture
    yield line(across.at(start), up.at(start * roof.gigabytes), across.at(ridge), up.at(roof.gmacs), "roof")
    yield line(across.at(ridge), up.at(roof.gmacs), _RIGHT, up.at(roof.gmacs), "roof")
    told = f"peak {number(roof.gmacs)}, slope {number(roof.gigabytes)} GB/s"
    yield words(_RIGHT, _TOP - 12, told, "strong", "end")


def _dot(profile: Profile, item: Operator, across: _Axis, up: _Axis) -> Markup:
    told = element("title", f"{shorten(item.node, 60)}: {item.label}, {_told(item)}")
    x, y = across.at(item.intensity), up.at(item.gmacs)
    kind = f"dot {profile.bound(item)}"
    return element("circle", told, cx=f"{x:.3f}%", cy=f"{y:.1f}", r=f"{_radius(profile, item):.1f}", class_=kind)


def _ranks(profile: Profile, shown: Sequence[tuple[int, Operator]], across: _Axis, up: _Axis) -> Iterator[Markup]:
    """Above their dots, or below; one that would touch another number or such a dot is left out."""
    first = shown[:_NUMBERED]
    dots = [(across.at(item.intensity), up.at(item.gmacs), _radius(profile, item)) for _, item in first]
    taken = list(dots)
    for (rank, _), (x, y, radius) in zip(first, dots, strict=True):
        places = ((x, y - radius - 10, _LETTER), (x, y + radius + 10, _LETTER))
        free = next((place for place in places if not any(_touch(place, other) for other in taken)), None)
        if free is not None:
            taken.append(free)
            yield words(x, free[1] + 5, str(rank), "strong", "middle")


def _touch(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether two circles do (per cent across, pixels down, radius in pixels) on a picture as narrow as a phone."""
    return math.hypot((one[0] - other[0]) * _NARROW / 100, one[1] - other[1]) < one[2] + other[2]


def _radius(profile: Profile, item: Operator) -> float:
    return 3 + 24 * math.sqrt(profile.share(item))


def _told(item: Operator) -> str:
    return f"{number(item.ms)} ms, {number(item.gmacs)} GMAC/s, {number(item.intensity)} multiply-adds a byte"
