"""The front: what each budget took and kept, side by side, in a terminal and as a page with a picture."""

from collections.abc import Iterator

from rich.console import Console

from shoestring.core.front import Front, FrontPoint
from shoestring.core.receipt import FAILS, HOLDS, NOISY, Baseline
from shoestring.report.frontier import frontier, judged
from shoestring.report.markup import Markup, element
from shoestring.report.page import bullets, columns, facts, header, page, pairs, paragraph, section, table
from shoestring.report.svg import Bar, bars
from shoestring.report.terminal import Cell, print_fact, print_line, print_table
from shoestring.report.wording import (
    NONE,
    capital,
    device_facts,
    fixed,
    interval,
    number,
    quantity,
    shorten,
    size,
    times,
)

_LOOK = {HOLDS: ("green", "yes"), FAILS: ("bold red", "no"), NOISY: ("yellow", "maybe")}
_PLAIN = ("", None)


def print_front(front: Front, console: Console) -> None:
    """Prints what each point takes and keeps, then which file it is. Readable from 80 columns on."""
    print_line(console)
    print_line(console, f"front of {shorten(front.model, 48)}", "bold")
    print_line(console, front.budget)
    print_line(console)
    rows: list[list[Cell]] = []
    for rank, point in enumerate(front.points, start=1):
        style, _ = _LOOK.get(point.verdict, _PLAIN)
        rows.append([str(rank), *_measured(front, point), (shorten(point.verdict, 12), style)])
    print_table(console, ["point", *_headings(front), "verdict"], rows)
    for sentence in _sentences(front):
        print_line(console, sentence)
    print_line(console)
    files = [[str(rank), *_named(point)] for rank, point in enumerate(front.points, start=1)]
    print_table(console, ["point", "asked", "runtime", "file"], files)
    print_line(console)
    if front.baselines:
        print_table(console, ["against", "runtime", ">ms", ">size", ">quality"], map(_against, front.baselines))
        print_line(console)
    if front.device:
        print_fact(console, "device", "; ".join(f"{name} {text}" for name, text in device_facts(front.device)))
    for note in front.notes:
        print_fact(console, "note", note)
    print_line(console)


def front_html(front: Front) -> str:
    """One self-contained document in the look of the receipt."""
    return page(
        f"Front of {front.model}",
        header("front", front.model, front.budget),
        facts(_numbers(front)),
        _picture(front),
        _points(front),
        columns(
            _baselines(front),
            section("Notes", bullets(front.notes)) if front.notes else None,
            section("Device", pairs(device_facts(front.device))) if front.device else None,
        ),
    )


def _headings(front: Front) -> list[str]:
    return [">ms", ">size", ">speed-up", *([">quality", ">change", ">95 %"] if judged(front) else [])]


def _measured(front: Front, point: FrontPoint) -> list[str]:
    """A cell for each of the headings."""
    cells = [number(point.latency_ms), size(point.size_bytes), times(point.speedup)]
    if not judged(front):
        return cells
    span = NONE if point.low is None or point.high is None else interval(point.low, point.high, signed=True)
    return [*cells, fixed(point.quality), fixed(point.difference, signed=True), span]


def _named(point: FrontPoint) -> list[str]:
    return [shorten(point.asked, 32), shorten(point.runtime, 16), point.file]


def _against(baseline: Baseline) -> list[str]:
    names = shorten(baseline.name, 24), shorten(baseline.runtime, 16)
    return [*names, number(baseline.latency_ms), size(baseline.size_bytes), fixed(baseline.quality)]


def _sentences(front: Front) -> Iterator[str]:
    """What the columns are, and which points nobody needs."""
    if judged(front):
        told = f"{shorten(front.metric, 24)} in {shorten(front.unit, 8)}"
        yield f"Quality: {told}; the change is to the original, with its 95 % interval."
    worse = [str(rank) for rank, point in enumerate(front.points, start=1) if point.dominated]
    if worse:
        points = f"Point {worse[0]} is" if len(worse) == 1 else f"Points {', '.join(worse)} are"
        yield f"{points} dominated: another is no slower and no worse."


def _numbers(front: Front) -> Iterator[tuple[str, str, str]]:
    """The few numbers one looks for first."""
    points = list(enumerate(front.points, start=1))
    yield "Points", str(len(points)), "a file each"
    if not points:
        return
    rank, fastest = min(points, key=lambda item: item[1].latency_ms)
    yield "Fastest", f"{number(fastest.latency_ms)} ms", f"point {rank}, {times(fastest.speedup)} over fp32"
    rank, smallest = min(points, key=lambda item: item[1].size_bytes)
    yield "Smallest", size(smallest.size_bytes), f"point {rank}"
    if judged(front):
        rank, best, quality = max(judged(front), key=lambda item: item[2])
        change = quantity(best.difference, front.unit)
        yield "Best quality", fixed(quality), f"point {rank}, {shorten(front.metric, 24)}, {change} to the original"


def _picture(front: Front) -> Markup:
    if not judged(front):
        rows = [_bar(f"point {rank} · {point.runtime}", point) for rank, point in enumerate(front.points, start=1)]
        rows += [_bar(f"{shorten(item.name, 14)} · {item.runtime}", item) for item in front.baselines]
        return section("Speed", element("figure", bars("latency", "Latency in milliseconds", rows)))
    caption = (
        "Whiskers: the 95 % interval of the change. Squares: the original in each precision on its best runtime. "
        "Hollow: another point is no slower and no worse."
    )
    picture = element("figure", frontier("front", front), element("figcaption", caption))
    return section("What speed costs", picture)


def _bar(label: str, of: FrontPoint | Baseline) -> Bar:
    subject = isinstance(of, FrontPoint)
    aside = times(of.speedup) if isinstance(of, FrontPoint) else ""
    return Bar(label, of.latency_ms, f"{number(of.latency_ms)} ms", aside, subject=subject)


def _points(front: Front) -> Markup:
    rows: list[list[str | Markup]] = []
    for rank, point in enumerate(front.points, start=1):
        _, kind = _LOOK.get(point.verdict, _PLAIN)
        verdict = element("span", shorten(point.verdict, 12), class_=kind)
        *asked, file = _named(point)
        named = element("code", shorten(file, 40), title=file)
        rows.append([str(rank), *_measured(front, point), verdict, *asked, named])
    headings = ["Point", *map(capital, _headings(front)), "Verdict", "Asked", "Runtime", "File"]
    inside = element("div", table("The points of the front", headings, rows), class_="dense")
    return section("Points", inside, *(paragraph(text, "quiet-text") for text in _sentences(front)))


def _baselines(front: Front) -> Markup | None:
    if not front.baselines:
        return None
    headings = ["Baseline", "Runtime", ">ms", ">Size", ">Quality"]
    return section("Against", table("The baselines", headings, map(_against, front.baselines)))
