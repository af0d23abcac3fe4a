"""The evaluation: what features are worth under each protocol and what they cost, in a terminal and as a page."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from shoestring.core.evaluation import Evaluation, Row
from shoestring.report.intervals import Mean, intervals
from shoestring.report.markup import Markup, element
from shoestring.report.page import bullets, columns, facts, header, page, pairs, paragraph, section, table
from shoestring.report.terminal import Cell, print_fact, print_line, print_table
from shoestring.report.wording import NONE, capital, device_facts, fixed, interval, number, shorten

_WORTH = ["protocol", ">mean", ">95 %", ">n", ">seeds"]
_COSTS = [">parameters", ">MACs", ">ms", ">p90", ">peak MB", ">NetScore+"]


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints what each subject is worth, protocol by protocol, then what it costs. Readable from 80 columns on."""
    print_line(console)
    print_line(console, shorten(evaluation.title, 70), "bold")
    print_line(console, evaluation.data)
    print_line(console)
    worth: list[list[Cell]] = [[shorten(row.name, 26), *_worth(row, 18)] for row in evaluation.rows]
    print_table(console, ["name", *_WORTH], worth)
    print_line(console, _sentence(evaluation))
    print_line(console)
    costs = [[shorten(row.name, 22), *_costs(row)] for row in _priced(evaluation)]
    if costs:
        print_table(console, ["name", *_COSTS], costs)
        print_line(console)
    if evaluation.device:
        print_fact(console, "device", "; ".join(f"{name} {text}" for name, text in device_facts(evaluation.device)))
    for note in evaluation.notes:
        print_fact(console, "note", note)
    print_line(console)


def evaluation_html(evaluation: Evaluation, pictures: Mapping[str, Markup] | None = None) -> str:
    """One self-contained document in the look of the receipt. `pictures`: caption to picture (`report.cloud`), shown
    side by side."""
    return page(
        evaluation.title,
        header("evaluation", evaluation.title, evaluation.data),
        facts(_numbers(evaluation)),
        *evaluation_parts(evaluation, pictures),
    )


def evaluation_parts(evaluation: Evaluation, pictures: Mapping[str, Markup] | None = None) -> tuple[Markup | None, ...]:
    """What follows the headline, for pages that have another one."""
    return (
        columns(*(_protocol(evaluation, index, name) for index, name in enumerate(evaluation.protocols))),
        picture_section(pictures or {}),
        _table(evaluation),
        columns(
            section("Notes", bullets(evaluation.notes)) if evaluation.notes else None,
            section("Device", pairs(device_facts(evaluation.device))) if evaluation.device else None,
        ),
    )


def amount(row: Row) -> str:
    """The mean in its unit; errors, which can be tiny, in three digits."""
    return f"{fixed(row.mean)} %" if row.unit == "%" else f"{number(row.mean)} {shorten(row.unit, 8)}".rstrip()


def count(value: int | None) -> str:
    """A large number in few letters.

    >>> count(140_000), count(310_000_000), count(512), count(None)
    ('140 k', '310 M', '512', '–')
    """
    if value is None:
        return NONE
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{number(value / factor)} {letter}"
    return str(value)


def _worth(row: Row, width: int) -> list[str]:
    """A cell for each of `_WORTH`."""
    span = interval(row.low, row.high) if row.unit == "%" else f"{number(row.low)} to {number(row.high)}"
    return [shorten(row.protocol, width), amount(row), span, str(row.n), str(row.seeds)]


def _costs(row: Row) -> list[str]:
    """A cell for each of `_COSTS`."""
    cost = row.cost
    times = number(cost.ms_p50), number(cost.ms_p90), number(cost.peak_mb)
    return [count(cost.params), count(cost.macs), *times, fixed(row.netscore)]


def _priced(evaluation: Evaluation) -> list[Row]:
    """A row for each subject with a cost: the one with the best NetScore+."""
    best: dict[str, Row] = {}
    for row in evaluation.rows:
        known = best.get(row.name)
        if row.cost.params and (known is None or (row.netscore or -1e9) > (known.netscore or -1e9)):
            best[row.name] = row
    return list(best.values())


def _sentence(evaluation: Evaluation) -> str:
    said = f"Mean: {shorten(evaluation.metric, 32)}, where a protocol does not say otherwise"
    return f"{said}; with its 95 % interval over n splits or episodes, never of the best run."


def _of(evaluation: Evaluation, protocol: str) -> list[Row]:
    return [row for row in evaluation.rows if row.protocol == protocol]


def _numbers(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    """The few numbers one looks for first: the best of the first protocols, and the best for its cost."""
    for name in evaluation.protocols[:3]:
        rows = _of(evaluation, name)
        best = max(rows, key=lambda row: row.mean if row.higher_is_better else -row.mean)
        yield capital(name), amount(best), f"{shorten(best.name, 36)}, best of {len(rows)}"
    scored = [(row.netscore, row) for row in evaluation.rows if row.netscore is not None]
    if scored:
        score, row = max(scored, key=lambda item: item[0])
        yield "NetScore+", fixed(score), f"{shorten(row.name, 36)}, accuracy for its cost"


def _protocol(evaluation: Evaluation, index: int, name: str) -> Markup:
    rows = _of(evaluation, name)
    drawn = [Mean(row.name, row.mean, row.low, row.high, amount(row), row.baseline) for row in rows]
    runs = {(row.n, row.seeds) for row in rows}
    n, seeds = next(iter(runs))
    told = f"{n} scores a row, {seeds} seed{'s' * (seeds != 1)}. " if len(runs) == 1 else ""
    told += "Bars: 95 % intervals. " + ("" if rows[0].higher_is_better else "Lower is better. ")
    told += "Hollow: there to be compared with." if any(row.baseline for row in rows) else ""
    picture = intervals(f"protocol-{index}", name, drawn)
    return section(capital(name), element("figure", picture, element("figcaption", told.strip())))


def picture_section(pictures: Mapping[str, Markup]) -> Markup | None:
    """Caption to picture, side by side; nothing where there is none."""
    if not pictures:
        return None
    shown = [element("figure", picture, element("figcaption", caption)) for caption, picture in pictures.items()]
    return section("What the features see", element("div", *shown, class_="several"))


def _table(evaluation: Evaluation) -> Markup:
    rows: list[Sequence[str | Markup]] = []
    for row in evaluation.rows:
        name = shorten(row.name, 40)
        named = name if row.baseline else element("strong", name)
        rows.append([named, *_worth(row, 24), *_costs(row)])
    headings = ["Name", *map(capital, [*_WORTH, *_COSTS])]
    inside = element("div", table("Every row with its cost", headings, rows), class_="dense")
    return section("All rows", inside, paragraph(_sentence(evaluation), "quiet-text"))
