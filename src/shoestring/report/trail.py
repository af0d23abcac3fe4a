"""The sparsity trail of a pruning run: what each point lost and saved, in a terminal and as a page with pictures."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from rich.console import Console

from shoestring.core.trail import Trail, TrailPoint
from shoestring.report.markup import Markup, element
from shoestring.report.page import facts, header, page, paragraph, section, table
from shoestring.report.svg import line, picture, words
from shoestring.report.terminal import print_line, print_table
from shoestring.report.wording import fixed, number, shorten

_LEFT, _RIGHT = 9.0, 97.0  # per cent: where the axes begin and end
_TOP, _BOTTOM = 30.0, 320.0  # pixels
_ROW, _NAME = 22, 44.0  # of a layer: its height in pixels; where its cells begin, in per cent
_STEPS = (1, 2, 5)


def print_trail(trail: Trail, console: Console, place: str) -> None:
    """Prints a line for each point. `place`: the folder that holds them."""
    print_line(console)
    print_line(console, f"sparsity trail of {trail.method}", "bold")
    print_line(console, _judged(trail))
    print_line(console)
    timed = any(point.ms is not None for point in trail.points)
    headings = ["point", ">run", ">zeros", ">multiplications", *([">ms"] if timed else []), f">{trail.metric}", ">lost"]
    print_table(console, headings, (_cells(trail, point, timed) for point in trail.points))
    print_line(console)
    print_line(console, _further(trail, place))
    print_line(console)


def trail_html(trail: Trail, place: str = "NAME.trail") -> str:
    """One self-contained document in the look of the receipt."""
    timed = any(point.ms is not None for point in trail.points)
    headings = ["Point", ">Run", ">Zeros", ">Multiplications", *([">ms"] if timed else []), f">{trail.metric}", ">Lost"]
    by_zeros = [(100 * point.zeros, point.quality) for point in trail.points]
    by_ms = [(point.ms, point.quality) for point in trail.points if point.ms is not None]
    what = f"{trail.metric.capitalize()}, {trail.unit}"
    return page(
        f"Sparsity trail of {trail.method}",
        header("sparsity trail", trail.method, _judged(trail)),
        facts(_numbers(trail)),
        section(
            "What zeros cost",
            element("figure", curve("zeros", what, "zeros, %", by_zeros, trail)),
        ),
        section("And what they save", element("figure", curve("ms", what, "predicted ms", by_ms, trail)))
        if len(by_ms) > 1
        else None,
        section("Where they are", element("figure", heat("layers", trail))) if trail.layers else None,
        section(
            "Points",
            element("div", table("The points of the run", headings, (_cells(trail, p, timed) for p in trail.points))),
            paragraph(_further(trail, place), "quiet-text"),
        ),
    )


def curve(key: str, title: str, across: str, points: Sequence[tuple[float, float]], trail: Trail) -> Markup:
    """Quality against what `across` says, point by point, numbered; the original as a dashed line. `key` is unique in
    the page."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = _ends([*ys, trail.original])
    left, right = _ends(xs)
    at_x = _scale(left, right, _LEFT, _RIGHT)
    at_y = _scale(low, high, _BOTTOM, _TOP)
    shapes = []
    for value in _marks(left, right):
        shapes.append(line(at_x(value), _TOP, at_x(value), _BOTTOM, "grid"))
        shapes.append(words(at_x(value), _BOTTOM + 20, f"{value:g}", "quiet", "middle"))
    for value in _marks(low, high):
        shapes.append(line(_LEFT, at_y(value), _RIGHT, at_y(value), "grid"))
        shapes.append(words(_LEFT - 1, at_y(value) + 5, f"{value:g}", "quiet", "end"))
    shapes.append(line(_LEFT, at_y(trail.original), _RIGHT, at_y(trail.original), "join"))
    shapes.append(words(_RIGHT, at_y(trail.original) - 7, "the original", "quiet", "end"))
    for (x1, y1), (x2, y2) in pairwise(points):
        shapes.append(line(at_x(x1), at_y(y1), at_x(x2), at_y(y2), "roof"))
    taken: list[tuple[float, float]] = []
    for point, (x, y) in zip(trail.points, points, strict=False):
        named = element("title", f"point {point.number}: {number(x)} {across}, {number(y)} {trail.unit}")
        place = at_x(x), at_y(y)
        shapes.append(element("circle", named, cx=f"{place[0]:.3f}%", cy=f"{place[1]:.1f}", r=6, class_="point"))
        if all(math.hypot((place[0] - a) * 3.4, place[1] - b) > 20 for a, b in taken):
            shapes.append(words(place[0], place[1] + 22, str(point.number), "strong", "middle"))
            taken.append(place)
    shapes.append(words(_LEFT, _TOP - 12, title, "quiet", "start"))
    shapes.append(words(_RIGHT, _BOTTOM + 40, across, "quiet", "end"))
    told = "; ".join(f"{number(x)} {across}: {number(y)} {trail.unit}" for x, y in points)
    return picture(key, f"{title} against {across}", told, _BOTTOM + 48, shapes)


def heat(key: str, trail: Trail) -> Markup:
    """A row for each layer, a cell for each point, the darker the more of the layer is zero, and the last share."""
    width = (_RIGHT - 9 - _NAME) / max(1, len(trail.points))
    shapes = []
    for row, (name, shares) in enumerate(trail.layers.items()):
        top = row * _ROW
        shapes.append(words(0, top + 15, shorten(name, 20), "quiet", "start"))
        for column, share in enumerate(shares):
            named = element("title", f"{name}, point {column + 1}: {number(100 * share)} % zeros")
            cell = {"x": f"{_NAME + column * width:.3f}%", "y": top + 2, "width": f"{width:.3f}%", "height": _ROW - 4}
            shapes.append(element("rect", named, **cell, class_="subject", fill_opacity=f"{share:.3f}"))
        shapes.append(words(_RIGHT + 3, top + 15, f"{100 * shares[-1]:.0f} %", "strong", "end"))
    told = "; ".join(f"{name}: {number(100 * shares[-1])} % zeros" for name, shares in trail.layers.items())
    return picture(key, "Zeros in each layer, point by point", told, len(trail.layers) * _ROW, shapes)


def _cells(trail: Trail, point: TrailPoint, timed: bool) -> list[str]:
    """A point as the table tells it."""
    lost = (trail.original - point.quality) * (1 if trail.higher_is_better else -1)
    return [
        str(point.number),
        f"{100 * point.progress:.0f} %",
        f"{100 * point.zeros:.1f} %",
        f"{100 * point.multiplications:.1f} %",
        *([number(point.ms)] if timed else []),
        fixed(point.quality),
        fixed(lost),
    ]


def _numbers(trail: Trail) -> Iterator[tuple[str, str, str]]:
    last = trail.points[-1]
    yield "Points", str(len(trail.points)), "of the run, each with its weights"
    yield "Zeros", f"{100 * last.zeros:.1f} %", "of the pruned layers' weights, at the end"
    yield "Multiplications", f"{100 * last.multiplications:.1f} %", "of the network's are by zero then"
    yield trail.metric.capitalize(), f"{number(last.quality)} {trail.unit}", "at the end, before 8 bits"


def _judged(trail: Trail) -> str:
    return (
        f"{trail.metric.capitalize()} in {trail.unit} on {trail.inputs} calibration inputs, in floats; "
        f"the original has {number(trail.original)}."
    )


def _further(trail: Trail, place: str) -> str:
    name = trail.method.partition(":")[0]
    return f"To go on from a point: shoestring fit MODEL ... --method {name} --from {place}/{trail.points[-1].file}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest, a little apart from each other."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _marks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, four to nine of them."""
    power = 10.0 ** math.floor(math.log10(high - low) - 1)
    step = next(s * p for p in (power, 10 * power) for s in _STEPS if (high - low) / (s * p) <= 8)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
