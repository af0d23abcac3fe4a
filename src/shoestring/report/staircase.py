"""Staircases: what each width costs on each runtime here, in a terminal and as a page with pictures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise

from rich.console import Console

from shoestring.core.device import Device
from shoestring.core.staircase import Staircase
from shoestring.report.markup import Markup, element
from shoestring.report.page import columns, facts, header, page, section, table
from shoestring.report.svg import line, picture, words
from shoestring.report.terminal import print_line
from shoestring.report.wording import number

_LEFT, _RIGHT = 10.0, 98.0  # per cent: where the axes begin and end
_TOP, _BOTTOM = 30.0, 420.0  # pixels
_DOT = 4  # pixels: radius
_EVERY = 8  # channels from mark to mark
_STEPS = (1, 2, 5)
_LOOKS = ("first", "second", "third")  # classes of page.css
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ROWS, _CELL, _MARGIN = 3, 6, 2  # in a terminal: lines of a staircase, characters of a width, and before the first
_SEEN = 0.125  # of a line: what the shortest time is drawn as
_LAYERS = {"3x3": "3x3 convolutions", "1x1": "1x1 convolutions", "depthwise": "depthwise convolutions"}
_HOW = (
    "A kernel works on so many channels at a time; a width in between pays for those that it does not have. Timed on "
    "small 8-bit networks; a time is the lower quartile of one call, in milliseconds."
)


def print_staircases(devices: Sequence[Device], found: Mapping[str, Staircase], console: Console) -> None:
    """Prints the times of each kind of layer as blocks over its widths. `found`: runtime to its staircase."""
    for device in devices:
        own = found[device.runtime]
        print_line(console, f"staircase of {device.runtime} {device.version}: {_snapped(own.multiple)}", "bold")
        for kind, ms in own.ms.items():
            print_line(console, f"  {_name(kind)}, ms by channels: {_snapped(own.multiples[kind])}")
            for text in _blocks(own, kind, ms, console):
                print_line(console, text)
            print_line(console)


def staircases_html(devices: Sequence[Device], found: Mapping[str, Staircase]) -> str:
    """One self-contained document in the look of the receipt. `found`: runtime to its staircase."""
    first, own = devices[0], {device.runtime: found[device.runtime] for device in devices}
    kinds = dict.fromkeys(kind for staircase in own.values() for kind in staircase.ms)
    threads = f"{first.threads} thread{'s' * (first.threads > 1)}"
    told = (
        (f"{device.runtime} {device.version}", str(own[device.runtime].multiple), _advice(own[device.runtime].multiple))
        for device in devices
    )
    return page(
        f"Staircases of {first.processor}",
        header("devices", "What a width costs here", f"{first.processor}, {threads}. {_HOW}"),
        facts(told),
        *(_section(kind, {name: one for name, one in own.items() if kind in one.ms}) for kind in kinds),
    )


def curves(kind: str, found: Mapping[str, Staircase]) -> Markup:
    """Milliseconds against channels, a line a runtime, with a dot at each width that is worth snapping to."""
    widths = [width for staircase in found.values() for width in staircase.widths]
    most = max(max(staircase.ms[kind]) for staircase in found.values())

    def at(width: float, ms: float) -> tuple[float, float]:
        share = (width - min(widths)) / max(1, max(widths) - min(widths))
        return _LEFT + share * (_RIGHT - _LEFT), _BOTTOM - ms / most * (_BOTTOM - _TOP)

    shapes = []
    for width in range(-(-min(widths) // _EVERY) * _EVERY, max(widths) + 1, _EVERY):
        x, _ = at(width, 0)
        shapes += [line(x, _TOP, x, _BOTTOM, "grid"), words(x, _BOTTOM + 20, str(width), "quiet", "middle")]
    for ms in _marks(most):
        _, y = at(0, ms)
        shapes += [line(_LEFT, y, _RIGHT, y, "grid"), words(_LEFT - 1, y + 5, f"{ms:g}", "quiet", "end")]
    shapes += [words(_LEFT, _TOP - 12, "ms", "quiet", "start"), words(_RIGHT, _BOTTOM + 40, "channels", "quiet", "end")]
    told = []
    for (runtime, staircase), look in zip(found.items(), cycle(_LOOKS), strict=False):
        points = list(zip(staircase.widths, staircase.ms[kind], strict=True))
        places = [at(*point) for point in points]
        shapes += [line(*start, *end, f"series {look}") for start, end in pairwise(places)]
        for (width, ms), (x, y) in zip(points, places, strict=True):
            if _worth(staircase, kind, width):
                named = element("title", f"{runtime}: {number(ms)} ms at {width} channels")
                shapes.append(element("circle", named, cx=f"{x:.3f}%", cy=f"{y:.1f}", r=_DOT, class_=f"spot {look}"))
        told.append(f"{runtime}: " + ", ".join(f"{number(ms)} at {width}" for width, ms in points))
    title = f"Milliseconds of {_name(kind)} by channels"
    return picture(f"staircase-{kind}", title, "; ".join(told), _BOTTOM + 48, shapes)


def _section(kind: str, found: Mapping[str, Staircase]) -> Markup:
    widths = list(dict.fromkeys(width for staircase in found.values() for width in staircase.widths))
    rows = [[str(width), *(_cell(staircase, kind, width) for staircase in found.values())] for width in widths]
    numbers = table(f"Milliseconds of {_name(kind)}", ["channels", *(f">{runtime}" for runtime in found)], rows)
    key = element("p", *(_key(kind, *item) for item in zip(found.items(), cycle(_LOOKS), strict=False)), class_="key")
    caption = element("figcaption", "Dots, and bold numbers, are the widths worth snapping to.")
    name = _name(kind)
    drawn = element("figure", key, curves(kind, found), caption)
    return section(f"{name[:1].upper()}{name[1:]}", columns(drawn, element("div", numbers, class_="dense")))


def _key(kind: str, named: tuple[str, Staircase], look: str) -> Markup:
    runtime, staircase = named
    swatch = element("svg", line(0, 6, 100, 6, f"series {look}"), width=24, height=12, aria_hidden="true")
    return element("span", swatch, f"{runtime}: {_snapped(staircase.multiples[kind])}")


def _cell(staircase: Staircase, kind: str, width: int) -> str | Markup:
    if width not in staircase.widths:
        return number(None)
    text = number(staircase.ms[kind][staircase.widths.index(width)])
    return element("strong", text) if _worth(staircase, kind, width) else text


def _blocks(staircase: Staircase, kind: str, ms: Sequence[float], console: Console) -> Iterator[str]:
    """Lines of blocks, from the shortest time to the longest; the widths, those worth snapping to with a star; the
    times. As many widths beside each other as the console is wide enough for."""
    places = max(1, (console.width - _MARGIN) // _CELL)
    pieces = -(-len(ms) // places)
    places = -(-len(ms) // pieces)
    least, range_ = min(ms), max(ms) - min(ms) or 1.0
    for start in range(0, len(ms), places):
        times = ms[start : start + places]
        heights = [_SEEN + (time - least) / range_ * (_ROWS - _SEEN) for time in times]
        for row in reversed(range(_ROWS)):
            yield _line(_filled(height - row, console) * (_CELL - 1) for height in heights)
        widths = staircase.widths[start : start + places]
        yield _line(f"{width}{'*' if _worth(staircase, kind, width) else ' '}" for width in widths)
        yield _line(f"{_short(time)} " for time in times)


def _line(cells: Iterator[str]) -> str:
    return (" " * (_MARGIN - 1) + "".join(f"{cell:>{_CELL}}" for cell in cells)).rstrip()


def _filled(height: float, console: Console) -> str:
    """What fills a character to so much of its height; where only letters can be written, all of it or nothing."""
    share = min(1.0, max(0.0, height))
    return _EIGHTHS[8 * round(share) if console.options.ascii_only else round(8 * share)]


def _short(ms: float) -> str:
    """At most five characters."""
    return f"{ms:.3f}" if ms < 9.9995 else f"{ms:.1f}"


def _worth(staircase: Staircase, kind: str, width: int) -> bool:
    step = staircase.multiples[kind]
    return step > 1 and width % step == 0


def _snapped(step: int) -> str:
    return "any width" if step == 1 else f"multiples of {step}"


def _advice(step: int) -> str:
    return (
        "any width is worth its time" if step == 1 else "widths are worth snapping to its multiples, all kinds together"
    )


def _name(kind: str) -> str:
    return _LAYERS.get(kind, kind)


def _marks(most: float) -> list[float]:
    """Round numbers from zero, three to seven of them."""
    power = 10.0 ** math.floor(math.log10(most) - 1)
    step = next(s * p for p in (power, 10 * power) for s in _STEPS if most / (s * p) <= 6)
    return [round(index * step, 10) for index in range(math.floor(most / step) + 1)]
