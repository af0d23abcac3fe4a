"""The sparsity trail of a pruning run: what each point lost and saved, in a terminal and as a page with pictures."""

import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise

from rich.console import Console

from shoestring.core.trail import Trail, TrailPoint
from shoestring.report.markup import Markup, element
from shoestring.report.page import columns, facts, header, page, section, table
from shoestring.report.plane import Plane, box, dot, labels
from shoestring.report.svg import line, picture
from shoestring.report.terminal import print_line, print_table
from shoestring.report.wording import capital, fixed, number, shorten

_STRIP = 10  # pixels: height of a layer's cells


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
    what = f"{capital(trail.metric)}, {trail.unit}"
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
            element("div", table("The points of the run", [capital(name) for name in headings], rows)),
            element("p", "To go on from a point: ", element("code", _further(trail, place)), class_="quiet-text"),
        ),
    )


def curve(key: str, title: str, across: str, at: Callable[[TrailPoint], float | None], trail: Trail) -> Markup:
    """Quality against what `at` says of each point (None leaves it out) and `across` calls it, numbered, in the order
    of the run; the original as a dashed line. `key` is unique in the page."""
    found = [(point, x) for point in trail.points for x in [at(point)] if x is not None]
    plane = Plane([x for _, x in found], [*(point.quality for point, _ in found), trail.original])
    places = [plane.at(x, point.quality) for point, x in found]
    told = [f"point {p.number}: {number(x)} {across}, {number(p.quality)} {trail.unit}" for p, x in found]
    shapes = [*plane.grid(across, title), *plane.level(trail.original, "the original")]
    shapes += [line(*start, *end, "roof") for start, end in pairwise(places)]
    shapes += map(dot, places, told)
    # at the end of a run its points crowd, and the last one is the result
    last_first = [(str(point.number), place) for (point, _), place in zip(found, places, strict=True)][::-1]
    shapes += labels([text for text, _ in last_first], [place for _, place in last_first], [*map(box, places)])[0]
    return picture(key, f"{title} against {across}", "; ".join(told), plane.height, shapes)


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
    yield capital(trail.metric), f"{number(last.quality)} {trail.unit}", "at the end, before 8 bits"


def _judged(trail: Trail) -> str:
    return (
        f"{capital(trail.metric)} in {trail.unit} on {trail.inputs} calibration inputs, in floats; "
        f"the original has {number(trail.original)}."
    )


def _further(trail: Trail, place: str) -> str:
    """A command for a shell: the method as it was written, since its layers are those whose zeros are held."""
    file = shlex.quote(f"{place}/{trail.points[-1].file}")
    return f"shoestring fit MODEL ... --method {shlex.quote(trail.method)} --from {file}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
