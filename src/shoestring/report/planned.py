"""A proposal as rows and sentences, before they become text or HTML."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from shoestring.core.proposal import Considered, PlannedLayer, Proposal
from shoestring.report.wording import NONE, number, quantity, shorten, size, times

_UNITS = {"latency": "ms", "size": "B", "memory": "MB"}
LOSS = "loss"  # the name of it among the totals
_SLACK = 1e-8  # what `core.choose` allows
_STEP = 0.05  # of the whole: what a shadow price is told for


@dataclass(frozen=True)
class Total:
    """What the plan takes of one thing. `met`: None where nothing was asked."""

    name: str
    original: str
    planned: str
    ratio: str
    limit: str
    met: bool | None


def headline(proposal: Proposal) -> str:
    return "Expected to meet the budget" if proposal.met else "Not expected to meet the budget"


def root(loss: float) -> float:
    """The relative error of outputs whose loss this is, in per cent."""
    return 100 * math.sqrt(max(0.0, loss))


def percent(loss: float) -> str:
    """The same in words.

    >>> percent(0.0151), percent(0.0)
    ('12.3 %', '0 %')
    """
    return f"{number(root(loss))} %" if loss > 0 else "0 %"


def noise(option: Considered) -> str:
    """What the error of an option may be off by, in per cent, to its own decimals; empty where nobody knows.

    >>> noise(Considered("int8", 0.1, 100, 0.0151, 0.001))
    '0.4'
    """
    if option.noise <= 0:
        return ""
    off = (root(option.loss + option.noise) - root(option.loss - option.noise)) / 2
    decimals = len(number(root(option.loss)).partition(".")[2])
    return f"{off:.{decimals}f}" if off >= 10**-decimals else number(off)


def totals(proposal: Proposal) -> Iterator[Total]:
    """Of the whole network, original and planned, against what was asked."""
    for name in dict.fromkeys([*proposal.original, *proposal.totals, *proposal.limits]):
        before, after, limit = (found.get(name) for found in (proposal.original, proposal.totals, proposal.limits))
        yield Total(
            _called(name),
            _amount(name, before),
            _amount(name, after),
            times(after / before) if before and after is not None else NONE,
            f"≤ {_amount(name, limit)}" if limit is not None else "",
            after <= limit * (1 + _SLACK) if limit is not None and after is not None else None,
        )


def prices(proposal: Proposal) -> Iterator[str]:
    """What a little more of each limit would buy."""
    loss = proposal.totals.get(LOSS, 0.0)
    for name, price in proposal.prices.items():
        if name == LOSS:
            continue
        whole = proposal.limits.get(name, proposal.totals.get(name, 0.0))
        if price <= 0 or loss <= 0 or whole <= 0:
            yield f"more room in {shorten(name, 16)} would not lower the output error"
            continue
        # A price holds nearby only: no step that would save more than half of the loss.
        step = _round(min(_STEP * whole, loss / price / 2))
        told = f"{step:g} {_UNITS.get(name, shorten(name, 16))}" if name != "size" else size(step)
        yield f"one more {told} would take the output error from {percent(loss)} to {percent(loss - price * step)}"


def gap(proposal: Proposal) -> str:
    """How far the plan may be from the best one; empty where it is the best."""
    if proposal.gap <= 0:
        return ""
    loss = proposal.totals.get(LOSS, 0.0)
    return f"this plan has an output error of {percent(loss)}; no plan has less than {percent(loss - proposal.gap)}"


def runner_up(layer: PlannedLayer) -> Considered | None:
    return next((option for option in layer.options if option.option == layer.runner_up), None)


def numbers(option: Considered) -> tuple[str, str, str, str]:
    """Milliseconds, size, error in per cent, and how sure that is."""
    return number(option.ms), size(option.size), percent(option.loss).removesuffix(" %"), noise(option)


def by_option(proposal: Proposal) -> list[tuple[str, int, float, int]]:
    """Each option that is taken: by how many layers, and their milliseconds and bytes; what takes longest first."""
    found: dict[str, list[Considered]] = {}
    for layer in proposal.layers:
        found.setdefault(layer.pick, []).append(layer.picked)
    rows = [(name, len(of), sum(one.ms for one in of), sum(one.size for one in of)) for name, of in found.items()]
    return sorted(rows, key=lambda row: -row[2])


def runtimes(proposal: Proposal) -> Iterator[list[str]]:
    """Each runtime that was compared: its best plan's milliseconds, size and error, and which one was taken."""
    for name, found in proposal.runtimes.items():
        cells = [_amount(limit, found.get(limit)) for limit in ("latency", "size", LOSS)]
        yield [shorten(name, 24), *cells, "taken" if name == proposal.device.get("runtime") else ""]


def command(proposal: Proposal) -> list[str]:
    """The parts of a command for a shell that asks for this very plan."""
    return ["shoestring fit MODEL", *(f"--method {shlex.quote(method)}" for method in proposal.methods)]


def _called(name: str) -> str:
    return "output error" if name == LOSS else shorten(name, 16)


def _amount(name: str, value: float | None) -> str:
    if value is not None and name == LOSS:
        return percent(value)
    return quantity(value, _UNITS.get(name, ""))


def _round(value: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= value * (1 + 1e-9))
