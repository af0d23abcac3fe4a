"""How numbers, shapes and verdicts are put into words: one place, so that the terminal and the page say the same."""

import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from shoestring.core.receipt import HOLDS, NOISY, Baseline, BudgetLine, Receipt, Speedup, Step

NONE = "–"
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def clean(text: object) -> str:
    """Text from a stranger without control, invisible and direction-changing characters (each becomes U+FFFD)."""
    return "".join("\ufffd" if unicodedata.category(char) in _HIDDEN else char for char in str(text))


def shorten(text: str, width: int) -> str:
    """At most `width` characters; what is too long loses its middle, since both ends of a layer's name tell it apart.

    >>> shorten("features.12.expand.conv", 15)
    'feature…nd.conv'
    """
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"


def capital(heading: str) -> str:
    """With a capital, unless it is a unit; the sign of a column of numbers stays in front."""
    name = heading.removeprefix(">")
    told = name if name == "ms" else f"{name[:1].upper()}{name[1:]}"
    return f"{heading.removesuffix(name)}{told}"


def number(value: float | None, signed: bool = False) -> str:
    """Three significant digits with fixed decimals below 1, so that columns of times line up.

    >>> number(1234.5), number(12.34), number(1.234), number(0.1234), number(-1.0, signed=True)
    ('1,234', '12.3', '1.23', '0.123', '−1.00')
    """
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if 0 < size < 0.01:
        text = f"{size:.2g}"
    else:
        decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
        text = f"{size:,.{decimals}f}"
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def fixed(value: float | None, signed: bool = False) -> str:
    """Two decimals, for ratios and points: 0.91 and 1.31 are read against each other.

    >>> fixed(1.309), fixed(-0.62, signed=True), fixed(0.0042), fixed(123.4)
    ('1.31', '−0.62', '0.0042', '123')
    """
    if value is None or not math.isfinite(value) or abs(value) >= 99.995 or 0 < abs(value) < 0.01:
        return number(value, signed)
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return f"{sign}{abs(value):.2f}"


def times(ratio: float) -> str:
    return f"{fixed(ratio)}×"


def size(count: float) -> str:
    """Bytes in decimal units.

    >>> size(812), size(4_870_000)
    ('812 B', '4.87 MB')
    """
    factor, unit = (1e6, "MB") if count >= 1e6 else (1e3, "kB") if count >= 1e3 else (1, "B")
    return f"{count:g} B" if factor == 1 else f"{number(count / factor)} {unit}"


def quantity(value: float | None, unit: str) -> str:
    """A value of a budget in its own unit (ms, B, MB, pt, x)."""
    if value is None:
        return NONE
    if unit == "B":
        return size(value)
    if unit == "x":
        return times(value)
    if unit == "pt":
        return f"{fixed(value, signed=True)} pt"
    return f"{number(value)} {shorten(unit, 8)}".rstrip()


def interval(low: float, high: float, signed: bool = False) -> str:
    return f"{fixed(low, signed)} to {fixed(high, signed)}"


def shape(dims: tuple[int, ...]) -> str:
    """A shape in few characters.

    >>> shape((32, 112, 112)), shape((3, 224, 160)), shape((1000,))
    ('32×112²', '3×224×160', '1000')
    """
    if len(dims) >= 2 and dims[-1] == dims[-2] > 1:
        return "×".join([*map(str, dims[:-2]), f"{dims[-1]}²"])
    return "×".join(map(str, dims)) or NONE


def asked(line: BudgetLine) -> str:
    """The limit with its direction; only quality is bounded from below."""
    return f"{'≥' if line.limit.startswith('quality') else '≤'} {quantity(line.asked, line.unit)}"


def answer(met: bool | None) -> str:
    return "cannot tell" if met is None else "met" if met else "not met"


def device_facts(device: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, text) of each entry of a device; nested entries on one line. What its runtime can do is left to where it
    matters: an explanation quotes it layer by layer."""

    def flat(value: object) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {flat(item)}" for key, item in value.items())
        if isinstance(value, list | tuple):
            return ", ".join(map(flat, value))
        return NONE if value is None else str(value)

    return [(str(key).replace("_", " "), flat(value)) for key, value in device.items() if key != "capabilities"]


def baseline_of(receipt: Receipt, speedup: Speedup) -> Baseline | None:
    """The baseline a speed-up is against: the best one of that name."""
    named = [baseline for baseline in receipt.baselines if baseline.name == speedup.against]
    return next((baseline for baseline in named if baseline.best), named[0] if named else None)


def speedup_over(receipt: Receipt, baseline: Baseline) -> Speedup | None:
    """The speed-up that is against this very baseline."""
    return next((speedup for speedup in receipt.speedup if baseline_of(receipt, speedup) is baseline), None)


def opponent(receipt: Receipt, speedup: Speedup) -> str:
    baseline = baseline_of(receipt, speedup)
    if baseline is None:
        return shorten(speedup.against, 24)
    return f"{shorten(baseline.name, 24)} on {shorten(baseline.runtime, 16)}"


def toughest(receipt: Receipt) -> Speedup | None:
    """The speed-up that counts: the one against the fastest baseline."""
    return min(receipt.speedup, key=lambda speedup: speedup.ratio, default=None)


def over_fp32(receipt: Receipt) -> Speedup | None:
    """The speed-up over the original as it was, when another baseline is the tougher one."""
    found = next((speedup for speedup in receipt.speedup if speedup.against == "fp32"), None)
    return None if found is toughest(receipt) else found


def speed_claim(receipt: Receipt) -> str:
    """The speed-up that counts, then the one over fp32. Claims nothing when an interval holds 1 or the machine was
    noisy."""
    counting, plain = toughest(receipt), over_fp32(receipt)
    if counting is None:
        return "No baseline was measured, so no speed-up is claimed."
    claim = _claim(receipt, counting, ", the baseline to beat")
    return claim if plain is None or receipt.verdict == NOISY else f"{claim} {_claim(receipt, plain)}"


def _claim(receipt: Receipt, speedup: Speedup, called: str = "") -> str:
    against, span = opponent(receipt, speedup), f"95 % interval {interval(speedup.low, speedup.high)}"
    if receipt.verdict == NOISY:
        return f"No speed-up is claimed. Against {against} it lies somewhere in {interval(speedup.low, speedup.high)}."
    if speedup.low <= 1 <= speedup.high:
        return f"No difference in speed to {against} can be shown ({span})."
    slower = "" if speedup.low > 1 else "Slower: "
    return f"{slower}{fixed(speedup.ratio)} times as fast as {against}{called} ({span})."


def verdict_reason(receipt: Receipt) -> str:
    """Why the verdict is what it is, in one sentence."""
    missed = [line for line in receipt.budget if line.met is False]
    if receipt.verdict == NOISY:
        return "The machine was too noisy to say. The numbers below are what was seen, not a claim."
    if missed:
        parts = [
            f"{shorten(line.limit, 16)} {asked(line)} asked, {quantity(line.got, line.unit)} measured"
            for line in missed
        ]
        return f"Not met: {'; '.join(parts)}."
    if receipt.verdict == HOLDS:
        return "Every limit of the budget is met." if receipt.budget else "No budget was set."
    return "The claim was measured and does not hold."


def ledger(receipt: Receipt) -> Iterator[tuple[Step, list[str]]]:
    """Each step with its ms, size and quality, and what it brought against the line that it built on, the last one
    that was kept: times as fast, bytes, points."""
    before: Step | None = None
    for step in receipt.ledger:
        brought = ["", "", ""]
        if before is not None:
            grown = step.size_bytes - before.size_bytes
            sign = "+" if grown > 0 else "−" if grown < 0 else ""
            faster = times(before.latency_ms / step.latency_ms) if step.latency_ms > 0 else NONE
            brought = [faster, f"{sign}{size(abs(grown))}", fixed(step.quality - before.quality, signed=True)]
        yield step, [number(step.latency_ms), size(step.size_bytes), fixed(step.quality), *brought]
        before = step if step.kept or before is None else before


def ladder(receipt: Receipt) -> Iterator[list[str]]:
    """Each operating point: what it is, ms, how much faster than the richest, quality, points and interval against the
    original, memory."""
    for rung in receipt.ladder:
        faster = times(receipt.ladder[-1].latency_ms / rung.latency_ms) if rung.latency_ms > 0 else NONE
        judged = [fixed(rung.quality), fixed(rung.difference, signed=True)]
        span = NONE if rung.low is None or rung.high is None else interval(rung.low, rung.high, signed=True)
        yield [shorten(rung.shape, 40), number(rung.latency_ms), faster, *judged, span, number(rung.peak_mb)]


def remark(step: Step) -> str:
    """What is to be said of a step of the ledger; empty for most."""
    told = shorten(step.note, 120)
    if step.kept:
        return told
    return f"taken back: {told}" if told else "taken back"


def notes(receipt: Receipt) -> list[str]:
    """The receipt's notes and those of its baselines."""
    remarks = [f"{item.name} on {item.runtime}: {item.note}" for item in receipt.baselines if item.note]
    return [*receipt.notes, *remarks]
