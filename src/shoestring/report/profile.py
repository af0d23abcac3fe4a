"""The profile: what each operator takes and reaches, in a terminal and as a page."""

from collections.abc import Iterator, Sequence

from rich.console import Console

from shoestring.core.profile import BOUNDS, COMPUTE, EXPLAINS, MEMORY, OVERHEAD, Operator, Profile
from shoestring.report.inventory import Column
from shoestring.report.markup import Markup, element, join
from shoestring.report.page import bullets, columns, facts, header, page, pairs, section, table
from shoestring.report.roofline import LEAST, drawn, roofline
from shoestring.report.svg import Bar, bars, thin_bars
from shoestring.report.terminal import GAP, Cell, print_fact, print_line, print_table
from shoestring.report.wording import NONE, device_facts, number, shorten

_STYLE = {COMPUTE: "green", MEMORY: "yellow", OVERHEAD: "red"}
_MEANING = {
    COMPUTE: f"at the peak, its multiply-adds would still take {100 * EXPLAINS:g} % of its time or more",
    MEMORY: "to copy its bytes would, and longer than its multiply-adds",
    OVERHEAD: "neither: starting, waiting, other instructions, a kernel far from the peak",
}
_SHOWN = 20  # operators that a terminal lists one by one
_SHORTEST_NAME, _LONGEST_LABEL, _BAR = 24, 20, 8
# Left out in this order where a terminal is narrow.
_DISPENSABLE = (">GB/s", ">% dense", ">MMAC", "", ">GMAC/s")


def print_profile(profile: Profile, console: Console) -> None:
    """Prints the slowest operators, then the kernels in sum. Readable from 80 columns on."""
    shown, rest = profile.operators[:_SHOWN], profile.operators[_SHOWN:]
    print_line(console)
    print_line(console, f"{shorten(profile.file, 48)} on {profile.device.get('runtime', NONE)}", "bold")
    print_line(console, _summary(profile))
    print_line(console)
    names, described = [item.node for item in shown], _columns(profile, shown)
    bounds: list[Cell] = [(profile.bound(item), _STYLE[profile.bound(item)]) for item in shown]
    _print(console, "operator", names, described, bounds)
    if rest:
        share = 100 * sum(map(profile.share, rest))
        print_line(console, f"and {len(rest)} more, together {share:.1f} % of the time")
    print_line(console)
    kernels = profile.by_label()
    counts: list[Cell] = [str(count) for _, count in kernels]
    sums = [item for item, _ in kernels]
    _print(console, "kernel", [item.label for item in sums], _columns(profile, sums)[1:], counts, ">operators")
    print_line(console)
    for name, text in _remarks(profile):
        print_fact(console, name, text)
    print_line(console)


def profile_html(profile: Profile) -> str:
    """One self-contained document in the look of the receipt."""
    batch, threads = profile.device.get("batch", NONE), profile.device.get("threads", NONE)
    under = f"on {profile.device.get('runtime', NONE)}, threads {threads}, batch {batch}"
    return page(
        f"{profile.file}: where the time goes",
        header("profile", profile.file, under),
        facts(_numbers(profile)),
        _picture(profile),
        columns(_kernels(profile), _bounds(profile)),
        section("Operators, slowest first", _table(profile)),
        columns(
            section("Device", pairs(device_facts(profile.device))) if profile.device else None,
            section("Notes", bullets(f"{name}: {text}" if name != "note" else text for name, text in _told(profile))),
        ),
    )


def _summary(profile: Profile) -> str:
    return (
        f"{number(profile.ms)} ms a run; its {len(profile.operators)} operators take {number(profile.profiled_ms)} ms "
        f"under the profiler. {number(100 * profile.peak_share)} % of the peak, {number(profile.roof.gmacs)} GMAC/s."
    )


def _columns(profile: Profile, items: Sequence[Operator]) -> list[Column]:
    """What is told of each operator but its name and bound; the kernel comes first."""
    scale = max((item.ms for item in items), default=0.0)
    return [
        Column("kernel", tuple(shorten(item.label, _LONGEST_LABEL) for item in items)),
        Column(">ms", tuple(number(item.ms) for item in items)),
        Column(">%", tuple(f"{100 * profile.share(item):.1f}" for item in items)),
        Column("", tuple("█" * round(_BAR * item.ms / scale if scale else 0) for item in items)),
        Column(">MMAC", tuple(_of(item, item.executed / 1e6) for item in items)),
        Column(">% dense", tuple(_of(item, 100 * item.executed / max(1, item.dense)) for item in items)),
        Column(">GMAC/s", tuple(_of(item, item.gmacs) for item in items)),
        Column(">% peak", tuple(_of(item, 100 * item.gmacs / profile.roof.gmacs) for item in items)),
        Column(">GB/s", tuple(number(item.gigabytes) if item.bytes else "" for item in items)),
    ]


def _of(item: Operator, value: float) -> str:
    """A number of an operator that multiplies."""
    return number(value) if item.dense or item.executed else ""


def _print(
    console: Console,
    heading: str,
    names: Sequence[str],
    described: Sequence[Column],
    last: Sequence[Cell],
    last_heading: str = "bound by",
) -> None:
    """A table with as many of the columns as there is room for."""

    def room() -> int:
        return console.width - len(last_heading) - GAP - sum(column.width + GAP for column in described)

    described = [column for column in described if column.heading != ">% dense" or set(column.cells) - {"", "100"}]
    for name in _DISPENSABLE:
        if room() < min(_SHORTEST_NAME, max(map(len, names), default=0)):
            described = [column for column in described if column.heading != name]
    first = [shorten(name, max(_SHORTEST_NAME, room())) for name in names]
    rows = zip(first, *(column.cells for column in described), last, strict=True)
    print_table(console, [heading, *(column.heading for column in described), last_heading], rows)


def _told(profile: Profile) -> Iterator[tuple[str, str]]:
    """What a reader must know, but the device."""
    yield "peak", f"{number(profile.roof.gmacs)} GMAC/s, measured with {profile.roof.how}"
    yield "memory", f"{number(profile.roof.gigabytes)} GB/s, measured with copies of as many bytes as a run moves"
    yield from (("note", note) for note in profile.notes)


def _remarks(profile: Profile) -> Iterator[tuple[str, str]]:
    yield from _told(profile)
    yield "bound by", "; ".join(f"{name}: {_MEANING[name]}" for name in BOUNDS)
    if profile.device:
        yield "device", "; ".join(f"{name} {text}" for name, text in device_facts(profile.device))


def _numbers(profile: Profile) -> Iterator[tuple[str, str, str]]:
    executed, dense = (sum(getattr(item, name) for item in profile.operators) for name in ("executed", "dense"))
    yield "A run", f"{number(profile.ms)} ms", "median, not profiled"
    yield "Its operators", f"{number(profile.profiled_ms)} ms", f"{len(profile.operators)}, under the profiler"
    yield "Multiply-adds", f"{number(executed / 1e6)} M", f"executed, of {number(dense / 1e6)} M dense"
    yield "Of the peak", f"{number(100 * profile.peak_share)} %", f"of {number(profile.roof.gmacs)} GMAC/s"
    yield "Memory", f"{number(profile.roof.gigabytes)} GB/s", "copying as much as a run moves"


def _picture(profile: Profile) -> Markup | None:
    shown = drawn(profile)
    if not shown:
        return None
    left = 1 - sum(profile.share(item) for _, item in shown)
    caption = (
        "A dot is an operator, its area its time, its number its rank in the table. The flat roof is the peak, the "
        "slope what copying reaches; a dot above it finds its bytes in a nearer cache. Not drawn: what multiplies "
        f"nothing or takes less than {100 * LEAST:g} %, together {100 * left:.1f} % of the time."
    )
    key = element("p", *map(_swatch, BOUNDS), class_="key")
    drawing = element("figure", key, roofline("roofline", profile), element("figcaption", caption))
    return section("Under the roof", drawing)


def _swatch(bound: str) -> Markup:
    dot = element("circle", cx=6, cy=6, r=6, class_=bound)
    return element("span", element("svg", dot, width=12, height=12, aria_hidden="true"), f"bound by {bound}")


def _kernels(profile: Profile) -> Markup:
    rows = [
        Bar(f"{shorten(item.label, 20)} · {count}", item.ms, f"{number(item.ms)} ms", _reached(profile, item))
        for item, count in profile.by_label()
    ]
    return section("By kernel", element("figure", bars("kernels", "Time of each kernel, milliseconds", rows)))


def _reached(profile: Profile, item: Operator) -> str:
    if item.executed:
        return f"{number(100 * item.gmacs / profile.roof.gmacs)} % of peak"
    return f"{number(item.gigabytes)} GB/s" if item.bytes else ""


def _bounds(profile: Profile) -> Markup:
    spent = {name: sum(item.ms for item in profile.operators if profile.bound(item) == name) for name in BOUNDS}
    rows = [Bar(name, ms, f"{number(ms)} ms", f"{_percent(ms, profile.profiled_ms)} %") for name, ms in spent.items()]
    meaning = pairs(_MEANING.items())
    return section("Bound by", element("figure", bars("bounds", "Time by what bounds it, milliseconds", rows)), meaning)


def _percent(part: float, whole: float) -> str:
    return number(100 * part / whole if whole > 0 else 0.0)


def _table(profile: Profile) -> Markup:
    """The time stands right after the name, so that a phone shows it."""
    items = profile.operators
    kernel, *numbers = (column for column in _columns(profile, items) if column.heading)
    scale = max((item.ms for item in items), default=0.0)
    names = [_named(rank, item, scale) for rank, item in enumerate(items, start=1)]
    bounds = [element("span", bound, class_=_LOOK[bound]) for bound in map(profile.bound, items)]
    kilobytes = [number(item.bytes / 1e3) if item.bytes else "" for item in items]
    time, share, *rates = numbers
    cells = [names, time.cells, share.cells, bounds, kernel.cells, *(column.cells for column in rates), kilobytes]
    headings = ["Operator", ">ms", ">%", "Bound by", "Kernel", *(column.heading for column in rates), ">kB"]
    return element("div", table("Operators and what they reach", headings, zip(*cells, strict=True)), class_="dense")


_LOOK = {COMPUTE: "yes", MEMORY: "maybe", OVERHEAD: "no"}


def _named(rank: int, item: Operator, scale: float) -> Markup:
    name = element("code", shorten(item.node, 40), title=item.node)
    return join(element("span", f"{rank} ", class_="nil"), name, thin_bars([("original", item.ms)], scale))
