"""The receipt in a terminal: verdict first, then speed, budget, quality, size, notes."""

from collections.abc import Iterator

from rich.console import Console

from shoestring.core.receipt import FAILS, HOLDS, NOISY, Quality, Receipt
from shoestring.report.terminal import Cell, print_fact, print_line, print_table
from shoestring.report.wording import (
    answer,
    asked,
    device_facts,
    fixed,
    interval,
    ladder,
    ledger,
    notes,
    number,
    quantity,
    remark,
    shorten,
    size,
    speed_claim,
    speedup_over,
    times,
    verdict_reason,
)

_STYLE = {HOLDS: "bold green", FAILS: "bold red", NOISY: "bold yellow"}
_ANSWER = {True: "green", False: "bold red", None: "yellow"}
_FACTORS = ("runtime", "precision", "structure")


def print_receipt(receipt: Receipt, console: Console) -> None:
    """Prints the receipt. Readable from 80 columns on, without colours and in a pipe."""
    subject = receipt.subject
    print_line(console)
    title = f"{shorten(receipt.verdict.upper(), 12)}  {shorten(subject.file, 48)} on {shorten(subject.runtime, 16)}"
    print_line(console, title, _STYLE.get(receipt.verdict, "bold"))
    print_line(console, speed_claim(receipt))
    print_line(console, verdict_reason(receipt))
    print_line(console)
    print_table(console, ["", "runtime", ">ms", ">size", ">quality", ">speed-up", ">95 %"], _contestants(receipt))
    if any(speedup.split for speedup in receipt.speedup):
        print_line(console)
        _print_split(receipt, console)
    if receipt.budget:
        print_line(console)
        rows = [
            (shorten(line.limit, 16), asked(line), quantity(line.got, line.unit), (answer(line.met), _ANSWER[line.met]))
            for line in receipt.budget
        ]
        print_table(console, ["budget", ">asked", ">got", ""], rows)
    if receipt.ladder:
        print_line(console)
        columns = ["operating point", ">ms", ">speed-up", ">quality", ">points", ">95 %", ">MB"]
        print_table(console, columns, ladder(receipt))
    if receipt.ledger:
        print_line(console)
        _print_ledger(receipt, console)
    print_line(console)
    for name, text in _facts(receipt):
        print_fact(console, name, text)
    print_line(console)


def _contestants(receipt: Receipt) -> Iterator[list[Cell]]:
    """The subject, then each baseline with the speed-up against it."""
    subject = receipt.subject
    measured = number(subject.latency_ms), size(subject.size_bytes), fixed(subject.quality)
    yield [(text, "bold") for text in ("this file", shorten(subject.runtime, 14), *measured, "", "")]
    for baseline in receipt.baselines:
        speedup = speedup_over(receipt, baseline)
        measured = number(baseline.latency_ms), size(baseline.size_bytes), fixed(baseline.quality)
        ratio, span = (times(speedup.ratio), interval(speedup.low, speedup.high)) if speedup else ("", "")
        yield [shorten(baseline.name, 16), shorten(baseline.runtime, 14), *measured, (ratio, "bold"), span]


def _print_split(receipt: Receipt, console: Console) -> None:
    """The factors of each speed-up; a factor of 1 did nothing."""
    names = list(dict.fromkeys([*_FACTORS, *(name for speedup in receipt.speedup for name in speedup.split)]))
    rows = []
    for speedup in receipt.speedup:
        factors = [fixed(speedup.split.get(name)) for name in names]
        rows.append([shorten(speedup.against, 16), times(speedup.ratio), *factors, fixed(speedup.realisation)])
    columns = [f">{'= ' if name == names[0] else '× '}{shorten(name, 12)}" for name in names]
    print_table(console, ["split against", ">ratio", *columns, ">realisation"], rows)


def _print_ledger(receipt: Receipt, console: Console) -> None:
    """What each step brought; a step that was taken back is paler, and says so on a line of its own."""
    rows: list[list[Cell]] = []
    for step, cells in ledger(receipt):
        style = "" if step.kept else "dim"
        rows.append([(text, style) for text in (shorten(step.step, 26), *cells)])
        if remark(step):
            rows.append([(f"  {remark(step)}", style), *[""] * len(cells)])
    print_table(console, ["step", ">ms", ">size", ">quality", ">speed-up", ">bytes", ">points"], rows)


def _facts(receipt: Receipt) -> Iterator[tuple[str, str]]:
    """(name, text); an empty name goes on with the one above."""
    subject = receipt.subject
    yield from _quality_facts(receipt.quality)
    if subject.peak_mb is not None:
        yield "memory", f"{number(subject.peak_mb)} MB at the peak of a process that loads and runs it"
    if subject.cpu_ms is not None:
        yield "processor", f"{number(subject.cpu_ms)} ms of processor time, all threads together"
    if receipt.micronet is not None:
        yield "MicroNet", f"score {number(receipt.micronet.value)}: {shorten(receipt.micronet.how, 120)}"
    if receipt.layers:
        before = sum(layer.original_ms for layer in receipt.layers)
        after = sum(layer.subject_ms for layer in receipt.layers)
        yield "layers", f"{len(receipt.layers)}, together {number(before)} ms in fp32 and {number(after)} ms here"
    if receipt.device:
        yield "device", "; ".join(f"{name} {text}" for name, text in device_facts(receipt.device))
    yield from (("note", note) for note in notes(receipt))


def _quality_facts(quality: Quality | None) -> Iterator[tuple[str, str]]:
    if quality is None:
        yield "quality", "not measured"
        return
    difference, span = quantity(quality.difference, quality.unit), interval(quality.low, quality.high, signed=True)
    yield "quality", f"{difference} {shorten(quality.metric, 24)} (95 % interval {span}, n = {quality.n})"
    yield "", f"original {fixed(quality.original)}, this file {fixed(quality.subject)}"
    if quality.agreement is not None:
        yield "", f"same top-1 as the original on {number(100 * quality.agreement)} % of the inputs"
    if quality.divergence is not None:
        yield "", f"divergence: {fixed(quality.divergence)} points of probability moved"
