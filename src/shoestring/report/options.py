"""The options of each layer in a page: a small picture, what is taken, and all that was considered, to be unfolded."""

from collections.abc import Sequence

from shoestring.core.proposal import Considered, PlannedLayer
from shoestring.report.markup import Markup, element
from shoestring.report.page import table
from shoestring.report.planned import numbers, root, runner_up
from shoestring.report.svg import line, percent
from shoestring.report.wording import shorten

_LEFT, _RIGHT = 4.0, 96.0  # per cent of a layer's picture: where the middle of a dot may be
_TOP, _BOTTOM, _HEIGHT = 6.0, 36.0, 42  # pixels
_LONGEST = 40
_RADII = {"original": 2.5, "hollow": 4.0, "point": 5.0}  # the more it matters, the later it is drawn
_ROLES = {"point": "taken", "hollow": "next best", "original": ""}


def key() -> Markup:
    """What the dots of the pictures are."""
    spans = []
    for kind, name in {**_ROLES, "original": "considered"}.items():
        circle = element("circle", cx=7, cy=7, r=_RADII[kind], class_=kind)
        spans.append(element("span", element("svg", circle, width=14, height=14, aria_hidden="true"), name))
    return element("p", *spans, "further right: slower; higher: more error; each layer on its own scale", class_="key")


def options(layers: Sequence[PlannedLayer]) -> Markup:
    """A line a layer, which unfolds into the table of its options."""
    items = [element("li", element("details", _line(layer), _table(layer))) for layer in layers]
    return element("ol", *items, class_="options")


def _line(layer: PlannedLayer) -> Markup:
    second = runner_up(layer)
    told = _choice(layer.picked, None), _choice(second, "nil") if second else None
    name = element("code", shorten(layer.layer, _LONGEST), title=layer.layer)
    return element("summary", name, _picture(layer), element("span", *told, class_="choices"))


def _choice(option: Considered, kind: str | None) -> Markup:
    ms, size, error = _cells(option)
    name = element("code", shorten(option.option, _LONGEST), title=option.option)
    return element("span", name, *(element("span", text) for text in (f"{ms} ms", size, error)), class_=kind)


def _picture(layer: PlannedLayer) -> Markup:
    """Milliseconds across, error up, both from zero. The numbers stand beside it, so readers of text skip it."""
    slowest = max(option.ms for option in layer.options)
    worst = max(root(option.loss) for option in layer.options)
    dots = []
    for option in sorted(layer.options, key=lambda option: _RADII[_kind(layer, option)]):
        x = _LEFT + (_RIGHT - _LEFT) * percent(option.ms, slowest) / 100
        y = _BOTTOM - (_BOTTOM - _TOP) * percent(root(option.loss), worst) / 100
        kind, told = _kind(layer, option), element("title", _told(option))
        dots.append(element("circle", told, cx=f"{x:.2f}%", cy=f"{y:.1f}", r=_RADII[kind], class_=kind))
    axes = line(0, 0, 0, _HEIGHT, "grid"), line(0, _HEIGHT, 100, _HEIGHT, "grid")
    return element("svg", *axes, *dots, width="100%", height=_HEIGHT, aria_hidden="true")


def _table(layer: PlannedLayer) -> Markup:
    rows = []
    for option in sorted(layer.options, key=lambda option: option.ms):
        name = element("code", shorten(option.option, _LONGEST), title=option.option)
        rows.append([name, *_cells(option), _ROLES[_kind(layer, option)]])
    headings = ["Option", ">ms", ">Size", ">Output error", ""]
    inside = table(f"Options of {shorten(layer.layer, _LONGEST)}", headings, rows)
    return element("div", inside, class_="dense")


def _kind(layer: PlannedLayer, option: Considered) -> str:
    return "point" if option.option == layer.pick else "hollow" if option.option == layer.runner_up else "original"


def _cells(option: Considered) -> tuple[str, str, str]:
    ms, size, error, noise = numbers(option)
    return ms, size, f"{error} ± {noise} %" if noise else f"{error} %"


def _told(option: Considered) -> str:
    ms, size, error = _cells(option)
    return f"{shorten(option.option, _LONGEST)}: {ms} ms, {size}, {error}"
