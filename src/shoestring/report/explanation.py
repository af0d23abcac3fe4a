"""The explanation: per layer, what each method would really do here, in a terminal and as a page."""

from collections.abc import Iterator

from rich.console import Console

from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, WRONG
from shoestring.core.explanation import UNKNOWN, VERDICTS, Explanation
from shoestring.report.inventory import (
    WHOLE,
    Column,
    described,
    groups,
    overview,
    reasons,
    settings,
    summary,
)
from shoestring.report.markup import Markup, element, join
from shoestring.report.page import bullets, columns, facts, header, page, pairs, section, table
from shoestring.report.svg import Bar, bars, thin_bars
from shoestring.report.terminal import GAP, Cell, print_fact, print_line, print_table
from shoestring.report.wording import device_facts, number, shorten

# verdict: (style in a terminal, class in the page)
_LOOK = {
    RUNS: ("green", "yes"),
    NO_EFFECT: ("dim", "nil"),
    STORED_ONLY: ("dim", "nil"),
    SLOWER: ("red", "no"),
    WRONG: ("bold red", "no"),
    UNKNOWN: ("yellow", "maybe"),
}
_PLAIN = ("", None)
_SHORTEST_NAME = 15


def print_explanation(explanation: Explanation, console: Console) -> None:
    """Prints what each setting does, in sum and layer by layer; in several tables where one is too wide."""
    print_line(console)
    print_line(console, shorten(explanation.model, 48), "bold")
    print_line(console, "; ".join(f"{name} {value}" for name, value in overview(explanation)))
    print_line(console)
    if explanation.settings:
        print_table(console, ["setting", *(f">{verdict}" for verdict in VERDICTS), ">ms"], summary(explanation))
        print_line(console)
    names = [*(item.layer.name for item in explanation.layers), WHOLE]
    room = console.width - min(_SHORTEST_NAME, max(map(len, names)))
    for group in groups(described(explanation), settings(explanation), room, GAP):
        left = max(_SHORTEST_NAME, console.width - sum(column.width + GAP for column in group))
        cells = [[shorten(name, left) for name in names], *map(_styled, group)]
        print_table(console, ["layer", *(column.heading for column in group)], zip(*cells, strict=True))
        print_line(console)
    for name, text in _remarks(explanation):
        print_fact(console, name, text)
    print_line(console)


def explanation_html(explanation: Explanation) -> str:
    """One self-contained document in the look of the receipt."""
    why = reasons(explanation)
    return page(
        f"{explanation.model}: what each method would do",
        header("explanation", explanation.model, "What each method would really do to each layer on this device"),
        facts((name, value, "") for name, value in overview(explanation)),
        columns(_totals(explanation), _counted(explanation)),
        section("Layer by layer", _layers(explanation)),
        section("Why", bullets(why)) if why else None,
        columns(
            section("Device", pairs(device_facts(explanation.device))) if explanation.device else None,
            section("Notes", bullets(explanation.notes)) if explanation.notes else None,
        ),
    )


def _styled(column: Column) -> list[Cell]:
    verdicts = column.verdicts or ("",) * len(column.cells)
    return [(cell, _LOOK.get(verdict, _PLAIN)[0]) for cell, verdict in zip(column.cells, verdicts, strict=True)]


def _remarks(explanation: Explanation) -> Iterator[tuple[str, str]]:
    yield from (("why", reason) for reason in reasons(explanation))
    if explanation.device:
        yield "device", "; ".join(f"{name} {text}" for name, text in device_facts(explanation.device))
    yield from (("note", note) for note in explanation.notes)


def _totals(explanation: Explanation) -> Markup | None:
    if not explanation.totals:
        return None
    rows = [
        Bar(name, value, f"{number(value)} ms", subject=name != "original")
        for name, value in explanation.totals.items()
    ]
    return section("Whole network", element("figure", bars("totals", "Time of the whole network, milliseconds", rows)))


def _counted(explanation: Explanation) -> Markup | None:
    if not explanation.settings:
        return None
    names, *counts = zip(*(row[: 1 + len(VERDICTS)] for row in summary(explanation)), strict=True)
    rows = [[verdict, *count] for verdict, count in zip(VERDICTS, counts, strict=True)]
    headings = ["Verdict", *(f">{name}" for name in names)]
    return section("Verdicts, by number of layers", table("Number of layers by what a setting does", headings, rows))


def _layers(explanation: Explanation) -> Markup:
    """The verdicts stand before the shapes, so that a phone shows them first."""
    times = [item.original_ms for item in explanation.layers]
    scale = max((time for time in times if time is not None), default=0.0)
    names = [_named(item.layer.name, time, scale) for item, time in zip(explanation.layers, times, strict=True)]
    kind, shapes, macs, kilobytes, time = described(explanation)
    effects = settings(explanation)
    cells = [
        [*names, element("strong", WHOLE)],
        time.cells,
        *map(_badges, effects),
        *(column.cells for column in (kind, shapes, macs, kilobytes)),
    ]
    headings = ["Layer", ">ms", *(column.heading for column in effects), "Kind", "Shapes", ">MMACs", ">kB"]
    inside = table("Layers, and what each setting does to them", headings, zip(*cells, strict=True))
    return element("div", inside, class_="dense")


def _named(name: str, time: float | None, scale: float) -> Markup:
    """A layer's name, and its share of the time as a bar."""
    bar = thin_bars([("original", time)], scale) if time is not None else Markup()
    return join(element("code", shorten(name, 40), title=name), bar)


def _badges(column: Column) -> list[Markup]:
    return [
        element("span", cell, class_=_LOOK.get(verdict, _PLAIN)[1])
        for cell, verdict in zip(column.cells, column.verdicts, strict=True)
    ]
