"""The proposal: the plan for a budget before anything is applied, in a terminal and as a page."""

from collections.abc import Iterator

from rich.console import Console

from shoestring.core.proposal import UNCHANGED, Proposal
from shoestring.core.receipt import FAILS, HOLDS
from shoestring.report.markup import Markup, element
from shoestring.report.options import key, options
from shoestring.report.page import bullets, columns, facts, header, page, pairs, paragraph, section, table
from shoestring.report.planned import (
    Total,
    by_option,
    command,
    gap,
    headline,
    numbers,
    prices,
    runner_up,
    runtimes,
    totals,
)
from shoestring.report.svg import Bar, bars, mark
from shoestring.report.terminal import GAP, Cell, lettered, print_fact, print_line, print_table
from shoestring.report.wording import NONE, answer, device_facts, number, shorten, size

_STYLE = {True: "green", False: "bold red", None: ""}
_LOOK = {True: ("yes", "✓ "), False: ("no", "✕ "), None: (None, "")}
_OPTION = ("option", ">ms", ">size", ">error %", ">noise")
_SHORTEST, _LONGEST = 15, 32  # characters of a name


def print_proposal(proposal: Proposal, console: Console) -> None:
    """Prints the plan, for each layer what is taken and below it what would be if that were not there. Readable from
    80 columns on; only the command at the end is never wrapped, so that it can be copied."""
    print_line(console)
    print_line(console, f"{headline(proposal)}: {shorten(proposal.model, 48)}", f"bold {_STYLE[proposal.met]}")
    for text in filter(None, (proposal.budget, proposal.reason)):
        print_line(console, text)
    print_line(console)
    print_table(console, ["", ">original", ">plan", ">ratio", ">limit", ""], map(_total, totals(proposal)))
    print_line(console)
    if proposal.layers:
        _print_layers(proposal, console)
        print_line(console)
        print_table(console, ["taken", ">layers", ">ms", ">size"], _taken(proposal))
        print_line(console)
    if proposal.runtimes:
        print_table(console, ["runtime", ">latency", ">size", ">output error", ""], runtimes(proposal))
        print_line(console)
    if proposal.methods:
        _print_command(proposal, console)
        print_line(console)
    for name, text in _remarks(proposal):
        print_fact(console, name, text)
    print_line(console)


def proposal_html(proposal: Proposal) -> str:
    """One self-contained document in the look of the receipt."""
    return page(
        f"{proposal.model}: {headline(proposal).lower()}",
        header("plan", proposal.model, proposal.budget),
        _verdict(proposal),
        facts(_numbers(proposal)),
        columns(_totals(proposal), _prices(proposal)),
        columns(_summary(proposal), _runtimes(proposal)),
        _layers(proposal),
        _command(proposal),
        columns(
            section("Device", pairs(device_facts(proposal.device))) if proposal.device else None,
            section("Notes", bullets(proposal.notes)) if proposal.notes else None,
        ),
    )


def _total(total: Total) -> list[Cell]:
    said = "" if total.met is None else answer(total.met)
    return [total.name, total.original, (total.planned, "bold"), total.ratio, total.limit, (said, _STYLE[total.met])]


def _print_layers(proposal: Proposal, console: Console) -> None:
    """Two lines a layer; the numbers take what they need, names and options share the rest."""
    pairs_ = [(layer.picked, runner_up(layer)) for layer in proposal.layers]
    cells = [numbers(option) for pair in pairs_ for option in pair if option]
    widths = [max(map(len, column)) for column in zip([name[1:] for name in _OPTION[1:]], *cells, strict=True)]
    room = console.width - sum(width + GAP for width in widths) - GAP
    options = max(len(option.option) for pair in pairs_ for option in pair if option) + len("or ")
    options = min(options, max(_SHORTEST, room // 2))
    names = max(_SHORTEST, room - options)
    rows: list[list[Cell]] = []
    for layer, (pick, second) in zip(proposal.layers, pairs_, strict=True):
        rows.append([shorten(layer.layer, names), (shorten(pick.option, options), "bold"), *numbers(pick)])
        if second:
            told = (f"or {shorten(second.option, options - len('or '))}", *numbers(second))
            rows.append(["", *((text, "dim") for text in told)])
    print_table(console, ["layer", *_OPTION], rows)


def _print_command(proposal: Proposal, console: Console) -> None:
    """A line a method, never wrapped: what is copied from a terminal has no breaks that are not the shell's."""
    print_line(console, "To get this plan:")
    *lines, last = command(proposal)
    for text in (*(f"{line} \\" for line in lines), last):
        console.print(lettered(console, text), highlight=False, soft_wrap=True)


def _taken(proposal: Proposal) -> list[list[str]]:
    rows = by_option(proposal)
    return [[shorten(name, _LONGEST), str(count), number(ms), size(weights)] for name, count, ms, weights in rows]


def _remarks(proposal: Proposal) -> Iterator[tuple[str, str]]:
    yield from (("price", sentence) for sentence in prices(proposal))
    if gap(proposal):
        yield "gap", gap(proposal)
    if proposal.device:
        yield "device", "; ".join(f"{name} {text}" for name, text in device_facts(proposal.device))
    yield from (("note", note) for note in proposal.notes)


def _verdict(proposal: Proposal) -> Markup:
    kind = HOLDS if proposal.met else FAILS
    reason = paragraph(proposal.reason) if proposal.reason else None
    said = element("div", element("strong", headline(proposal)), reason)
    return element("div", mark(kind), said, class_=f"verdict {kind}")


def _numbers(proposal: Proposal) -> Iterator[tuple[str, str, str]]:
    """The few numbers one looks for first."""
    for total in totals(proposal):
        limit = f"{total.limit} asked" if total.limit else "no limit"
        against = "" if total.ratio == NONE else f"{total.ratio} of {total.original}, "
        yield total.name.capitalize(), total.planned, f"{against}{limit}"
    if proposal.layers:
        changed = sum(layer.pick != UNCHANGED for layer in proposal.layers)
        yield "Layers", f"{changed} of {len(proposal.layers)}", "are changed"


def _totals(proposal: Proposal) -> Markup:
    rows = []
    for total in totals(proposal):
        kind, sign = _LOOK[total.met]
        met = element("span", sign, answer(total.met), class_=kind) if kind else ""
        rows.append([total.name.capitalize(), total.limit, total.planned, met, total.original])
    headings = ["Limit", ">Asked", ">Plan", "Expected", ">Original"]
    return section("Budget", table("What is asked and what the plan is expected to take", headings, rows))


def _prices(proposal: Proposal) -> Markup | None:
    told = [*prices(proposal), *filter(None, [gap(proposal)])]
    if not told:
        return None
    return section("What a little more would buy", bullets(f"{text[:1].upper()}{text[1:]}." for text in told))


def _summary(proposal: Proposal) -> Markup | None:
    if not proposal.layers:
        return None
    rows = [
        Bar(name, ms, f"{number(ms)} ms", f"{count} layer{'s' if count > 1 else ''}", subject=True)
        for name, count, ms, _ in by_option(proposal)
    ]
    return section("What is taken", element("figure", bars("taken", "Milliseconds by option", rows)))


def _runtimes(proposal: Proposal) -> Markup | None:
    if not proposal.runtimes:
        return None
    headings = ["Runtime", ">Latency", ">Size", ">Output error", ""]
    inside = table("The best plan of each runtime", headings, runtimes(proposal))
    return section("Runtimes that were compared", inside)


def _layers(proposal: Proposal) -> Markup | None:
    if not proposal.layers:
        return None
    lead = "What is taken, below it what would be if that were not there; a click shows all that was considered."
    return section("Layer by layer", paragraph(lead), key(), options(proposal.layers))


def _command(proposal: Proposal) -> Markup | None:
    if not proposal.methods:
        return None
    text = [element("code", part) for part in " \\\n  ".join(command(proposal)).split("\n")]
    return section("To get this plan", element("pre", Markup("\n".join(text)), tabindex=0))
