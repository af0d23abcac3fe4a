"""The sparsity trail of a pruning run: what each point lost and saved, in a terminal and as a page with pictures."""

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from rich.console import Console

from shoestring.core.trail import Trail, TrailPoint
from shoestring.report.markup import Markup, element
from shoestring.report.page import columns, facts, header, page, section, table
from shoestring.report.svg import line, picture, words
from shoestring.report.terminal import print_line, print_table
from shoestring.report.wording import fixed, number, shorten

_LEFT, _RIGHT = 9.0, 97.0  # per cent: where the axes begin and end
_TOP, _BOTTOM = 30.0, 320.0  # pixels
_PHONE = 3.4  # pixels of a per cent, on a picture on a phone
_DOT, _LETTER = 6.0, 8.0  # pixels: radius of a dot, half a number
_AROUND = ((0, 17), (0, -17), (18, 0), (-18, 0))  # pixels from a dot to the middle of its number
_STRIP = 10  # pixels: height of a layer's cells
_STEPS = (1, 2, 5)


def print_trail(trail: Trail, console: Console, place: str) -> None:
    """Prints a line for each point. `place`: the folder that holds them."""
    print_line(console)
    print_line(console, f"sparsity trail of {trail.method}", "bold")
    print_line(console, _judged(trail))
    print_line(console)
    headings, rows = _table(trail)
    print_table(console, headings, rows)
    print_line(console)
    print_line(console, f"To go on from a point: {_further(trail, place)}")
    print_line(console)


def trail_html(trail: Trail, place: str = "NAME.trail") -> str:
    """One self-contained document in the look of the receipt."""
    what = f"{_capital(trail.metric)}, {trail.unit}"
    timed = sum(point.ms is not None for point in trail.points) > 1
    by_zeros = curve("zeros", what, "% zeros", lambda point: 100 * point.zeros, trail)
    headings, rows = _table(trail)
    return page(
        f"Sparsity trail of {trail.method}",
        header("sparsity trail", trail.method, _judged(trail)),
        facts(_numbers(trail)),
        columns(
            section("What zeros cost", element("figure", by_zeros)),
            section("And what they save", element("figure", curve("ms", what, "predicted ms", lambda p: p.ms, trail)))
            if timed
            else None,
        ),
        section("Where they are", heat(trail)) if trail.layers else None,
        section(
            "Points",
            element("div", table("The points of the run", [_capital(name) for name in headings], rows)),
            element("p", "To go on from a point: ", element("code", _further(trail, place)), class_="quiet-text"),
        ),
    )


def curve(key: str, title: str, across: str, at: Callable[[TrailPoint], float | None], trail: Trail) -> Markup:
    """Quality against what `at` says of each point (None leaves it out) and `across` calls it, numbered, in the order
    of the run; the original as a dashed line. `key` is unique in the page."""
    found = [(point, x) for point in trail.points for x in [at(point)] if x is not None]
    left, right = _ends([x for _, x in found])
    low, high = _ends([*(point.quality for point, _ in found), trail.original])
    at_x, at_y = _scale(left, right, _LEFT, _RIGHT), _scale(low, high, _BOTTOM, _TOP)
    shapes = []
    for value in _marks(left, right):
        shapes.append(line(at_x(value), _TOP, at_x(value), _BOTTOM, "grid"))
        shapes.append(words(at_x(value), _BOTTOM + 20, f"{value:g}", "quiet", "middle"))
    for value in _marks(low, high):
        shapes.append(line(_LEFT, at_y(value), _RIGHT, at_y(value), "grid"))
        shapes.append(words(_LEFT - 1, at_y(value) + 5, f"{value:g}", "quiet", "end"))
    shapes.append(line(_LEFT, at_y(trail.original), _RIGHT, at_y(trail.original), "join"))
    shapes.append(words(_RIGHT, at_y(trail.original) - 7, "the original", "quiet", "end"))
    places = [(at_x(x), at_y(point.quality)) for point, x in found]
    shapes += [line(*start, *end, "roof") for start, end in pairwise(places)]
    told = [f"point {p.number}: {number(x)} {across}, {number(p.quality)} {trail.unit}" for p, x in found]
    for text, (x, y) in zip(told, places, strict=True):
        named = element("title", text)
        shapes.append(element("circle", named, cx=f"{x:.3f}%", cy=f"{y:.1f}", r=_DOT, class_="point"))
    shapes += _labels([str(point.number) for point, _ in found], places)
    shapes.append(words(_LEFT, _TOP - 12, title, "quiet", "start"))
    shapes.append(words(_RIGHT, _BOTTOM + 40, across, "quiet", "end"))
    return picture(key, f"{title} against {across}", "; ".join(told), _BOTTOM + 48, shapes)


def heat(trail: Trail) -> Markup:
    """A strip for each layer, a cell for each point, the darker the more of the layer is zero, and the last share."""
    width = 100 / max(1, len(trail.points))
    items = []
    for name, shares in trail.layers.items():
        cells = []
        for column, (point, share) in enumerate(zip(trail.points, shares, strict=True)):
            named = element("title", f"{name}, point {point.number}: {number(100 * share)} % zeros")
            across = {"x": f"{column * width:.3f}%", "width": f"{width:.3f}%", "height": _STRIP}
            cells.append(element("rect", named, **across, class_="subject", fill_opacity=f"{share:.3f}"))
        frame = element("rect", width="100%", height=_STRIP, fill="none", class_="grid")
        strip = element("svg", *cells, frame, width="100%", height=_STRIP, aria_hidden="true")
        called = element("code", shorten(name, 34), title=name)
        told = element("div", called, element("span", f"{100 * shares[-1]:.0f} %"), class_="line")
        items.append(element("li", told, strip))
    lead = "From point to point, the darker the more of the layer is zero; the number is the last point's."
    return element("div", element("p", lead), element("ol", *items, class_="layers"))


def _labels(texts: Sequence[str], places: Sequence[tuple[float, float]]) -> Iterator[Markup]:
    """Numbers beside their dots where they touch nothing, on a phone neither; the last point finds its place first.
    `places`: per cent across, pixels down."""
    taken = [(x * _PHONE, y, _DOT) for x, y in places]
    for text, (x, y) in reversed(list(zip(texts, places, strict=True))):
        for dx, dy in _AROUND:
            mine = x * _PHONE + dx, y + dy
            inside = _TOP < mine[1] < _BOTTOM - _LETTER and _LEFT * _PHONE < mine[0] < 100 * _PHONE
            if inside and all(math.dist(mine, (a, b)) >= _LETTER + radius for a, b, radius in taken):
                taken.append((*mine, _LETTER))
                at = {"x": f"{x:.3f}%", "y": f"{mine[1] + 5:g}", "dx": dx}
                yield element("text", text, **at, text_anchor="middle", class_="strong")
                break


def _table(trail: Trail) -> tuple[list[str], list[list[str]]]:
    """Headings and a row for each point. What it lost and saved stands first, so that a phone shows it."""
    cells: dict[str, Callable[[TrailPoint], str]] = {
        "point": lambda point: str(point.number),
        ">zeros": lambda point: _percent(point.zeros),
        ">ms": lambda point: number(point.ms),
        f">{shorten(trail.metric, 16)}": lambda point: fixed(point.quality),
        ">lost": lambda point: fixed(trail.lost(point)),
        ">multiplications": lambda point: _percent(point.multiplications),
        ">near": lambda point: number(None) if point.band is None else _percent(point.band),
        ">run": lambda point: f"{100 * point.progress:.0f} %",
    }
    absent = {
        ">ms": all(point.ms is None for point in trail.points),
        ">near": all(point.band is None for point in trail.points),
    }
    shown = {heading: cell for heading, cell in cells.items() if not absent.get(heading)}
    return list(shown), [[cell(point) for cell in shown.values()] for point in trail.points]


def _numbers(trail: Trail) -> Iterator[tuple[str, str, str]]:
    last = trail.points[-1]
    yield "Points", str(len(trail.points)), "of the run, each with its weights"
    yield "Zeros", _percent(last.zeros), "of the pruned layers' weights, at the end"
    yield "Multiplications", _percent(last.multiplications), "of the network's are by zero then"
    yield _capital(trail.metric), f"{number(last.quality)} {trail.unit}", "at the end, before 8 bits"


def _judged(trail: Trail) -> str:
    return (
        f"{_capital(trail.metric)} in {trail.unit} on {trail.inputs} calibration inputs, in floats; "
        f"the original has {number(trail.original)}."
    )


def _further(trail: Trail, place: str) -> str:
    """A command for a shell: the method as it was written, since its layers are those whose zeros are held."""
    file = shlex.quote(f"{place}/{trail.points[-1].file}")
    return f"shoestring fit MODEL ... --method {shlex.quote(trail.method)} --from {file}"


def _capital(heading: str) -> str:
    """With a capital, unless it is a unit; the sign of a column of numbers stays in front."""
    name = heading.removeprefix(">")
    told = name if name == "ms" else f"{name[:1].upper()}{name[1:]}"
    return f"{heading.removesuffix(name)}{told}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


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
