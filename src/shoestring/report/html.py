"""The receipt as one HTML file with pictures."""

from collections.abc import Iterator

from shoestring.core.receipt import FAILS, HOLDS, NOISY, Quality, Receipt, Speedup
from shoestring.report.markup import Markup, element
from shoestring.report.page import bullets, columns, facts, header, page, pairs, paragraph, section, table
from shoestring.report.svg import Bar, Span, bars, mark, span, thin_bars, waterfall
from shoestring.report.wording import (
    NONE,
    answer,
    asked,
    device_facts,
    fixed,
    interval,
    ladder,
    ledger,
    notes,
    number,
    opponent,
    over_fp32,
    quantity,
    remark,
    shorten,
    size,
    speed_claim,
    speedup_over,
    times,
    toughest,
    verdict_reason,
)

_WORDS = {HOLDS: "Holds", FAILS: "Fails", NOISY: "Too noisy to say"}
_SLOWER = 1.05  # a layer's time is one profile, so that less is not worth a mark
_SIGNS = {True: ("yes", "✓"), False: ("no", "✕"), None: ("maybe", "?")}


def receipt_html(receipt: Receipt) -> str:
    """One self-contained document: no script, no other file, light and dark, from 360 px on."""
    subject = receipt.subject
    left = element("div", _speed(receipt), _size(receipt))
    right = element("div", _budget(receipt), _quality(receipt))
    return page(
        f"{subject.file}: {receipt.verdict}",
        header("receipt", subject.file, f"on {subject.runtime}"),
        _verdict(receipt),
        facts(_numbers(receipt)),
        columns(left, right),
        _ladder(receipt),
        _ledger(receipt),
        _split(receipt),
        _everything(receipt),
        _layers(receipt),
        columns(_device(receipt), _notes(receipt)),
    )


def _verdict(receipt: Receipt) -> Markup:
    known = receipt.verdict in (HOLDS, FAILS)
    word = element("strong", _WORDS.get(receipt.verdict, receipt.verdict))
    said = element("div", word, paragraph(speed_claim(receipt)), paragraph(verdict_reason(receipt)))
    return element("div", mark(receipt.verdict), said, class_=f"verdict {receipt.verdict if known else ''}".rstrip())


def _numbers(receipt: Receipt) -> Iterator[tuple[str, str, str]]:
    """The four to six numbers one looks for first."""
    subject, speedup, quality = receipt.subject, toughest(receipt), receipt.quality
    if speedup is not None:
        ratio = NONE if receipt.verdict == NOISY else times(speedup.ratio)
        yield "Speed-up", ratio, f"{interval(speedup.low, speedup.high)}, against {opponent(receipt, speedup)}"
    plain = over_fp32(receipt)
    if plain is not None:
        ratio = NONE if receipt.verdict == NOISY else times(plain.ratio)
        yield "Over fp32", ratio, f"{interval(plain.low, plain.high)}, the original on its best runtime"
    yield "Latency", f"{number(subject.latency_ms)} ms", "median of one batch"
    if quality is not None:
        span_ = interval(quality.low, quality.high, signed=True)
        yield "Quality", quantity(quality.difference, quality.unit), f"{span_}, {shorten(quality.metric, 24)}"
    yield "Size", size(subject.size_bytes), "the file"
    if subject.peak_mb is not None:
        yield "Memory", f"{number(subject.peak_mb)} MB", "peak of a process that runs it"


def _speed(receipt: Receipt) -> Markup:
    subject = receipt.subject
    rows = [Bar(f"this file · {subject.runtime}", subject.latency_ms, _ms(subject.latency_ms), subject=True)]
    for baseline in receipt.baselines:
        speedup = speedup_over(receipt, baseline)
        low, high, aside = None, None, ""
        if speedup:
            low, high = speedup.low * subject.latency_ms, speedup.high * subject.latency_ms
            aside = times(speedup.ratio)
        label = f"{shorten(baseline.name, 14)} · {baseline.runtime}"
        rows.append(Bar(label, baseline.latency_ms, _ms(baseline.latency_ms), aside, low, high))
    drawn = bars("latency", "Latency in milliseconds", rows)
    if not receipt.speedup:
        return section("Speed", element("figure", drawn))
    explained = "Whiskers: the 95 % interval of the speed-up, times this file's latency."
    picture = element("figure", drawn, element("figcaption", explained))
    headings = ["Against", ">Speed-up", ">95 % interval", ">Realisation"]
    lines = [_speed_line(receipt, speedup) for speedup in receipt.speedup]
    meaning = "Realisation: measured speed-up over the ratio of multiplications."
    return section("Speed", picture, table("Speed-up against each baseline", headings, lines), _small(meaning))


def _speed_line(receipt: Receipt, speedup: Speedup) -> list[str]:
    span_ = interval(speedup.low, speedup.high)
    return [opponent(receipt, speedup), times(speedup.ratio), span_, fixed(speedup.realisation)]


def _budget(receipt: Receipt) -> Markup:
    if not receipt.budget:
        return section("Budget", paragraph("No budget was set."))
    rows = []
    for line in receipt.budget:
        kind, sign = _SIGNS[line.met]
        met = element("span", f"{sign} {answer(line.met)}", class_=kind)
        rows.append([shorten(line.limit, 24), asked(line), quantity(line.got, line.unit), met])
    return section("Budget", table("What was asked and what was measured", ["Limit", ">Asked", ">Got", "Met"], rows))


def _quality(receipt: Receipt) -> Markup:
    quality = receipt.quality
    if quality is None:
        return section("Quality", paragraph("Quality was not measured."))
    limit = next((line.asked for line in receipt.budget if line.limit.startswith("quality")), None)
    shown = Span(quality.difference, quality.low, quality.high, limit, quality.unit)
    picture = span("quality", f"Difference in {quality.metric} to the original", shown)
    caption = (
        f"{quantity(quality.difference, quality.unit)} {shorten(quality.metric, 24)}, 95 % interval "
        f"{interval(quality.low, quality.high, signed=True)}, on the same {quality.n} inputs."
    )
    return section(
        "Quality", element("figure", picture, element("figcaption", caption)), pairs(_quality_facts(quality))
    )


def _quality_facts(quality: Quality) -> Iterator[tuple[str, str]]:
    yield "Original", fixed(quality.original)
    yield "This file", fixed(quality.subject)
    if quality.agreement is not None:
        yield "Agreement", f"{number(100 * quality.agreement)} % of the inputs get the same top-1"
    if quality.divergence is not None:
        yield "Divergence", f"{fixed(quality.divergence)} points of probability moved"


def _ladder(receipt: Receipt) -> Markup | None:
    if not receipt.ladder:
        return None
    headings = ["Operating point", ">ms", ">Speed-up", ">Quality", ">Points", ">95 %", ">MB"]
    lead = "One file with one set of weights; a deadline takes the richest point that meets it. Timed in turns."
    meaning = (
        "w: share of channels, d: residual blocks left out of each stage, k: rings cut off kernels, r: share of the "
        "input's size. Points: against the original. MB: of a process that runs one point."
    )
    rows = [[element("span", cell) for cell in cells] for cells in ladder(receipt)]
    return section("Operating points", paragraph(lead), table("The ladder", headings, rows), _small(meaning))


def _ledger(receipt: Receipt) -> Markup | None:
    if not receipt.ledger:
        return None
    rows = []
    for step, cells in ledger(receipt):
        kind = None if step.kept else "nil"
        told = element("div", remark(step), class_="nil") if remark(step) else None
        name = element("span", shorten(step.step, 40), title=step.step, class_=kind)
        rows.append([element("div", name, told), *(element("span", cell, class_=kind) for cell in cells)])
    headings = ["Step", ">ms", ">Size", ">Quality", ">Speed-up", ">Bytes", ">Points"]
    lead = "From the original to this file, one step after another, each timed in turns with the others."
    meaning = "Quality: per cent of the original's outputs. Changes are against the last step that was not taken back."
    return section("What each step brought", paragraph(lead), table("The ledger", headings, rows), _small(meaning))


def _split(receipt: Receipt) -> Markup | None:
    pictures = []
    for index, speedup in enumerate(receipt.speedup):
        if not speedup.split:
            continue
        title = f"{times(speedup.ratio)} against {opponent(receipt, speedup)}"
        drawn = waterfall(f"split-{index}", title, (opponent(receipt, speedup), "this file"), speedup.split)
        pictures.append(element("figure", element("h3", title), drawn))
    if not pictures:
        return None
    lead = "Each factor shortens what the one above it left; together they are the speed-up."
    return section("Where the speed comes from", paragraph(lead), element("div", *pictures, class_="several"))


def _size(receipt: Receipt) -> Markup:
    subject = receipt.subject
    rows = [Bar("this file", subject.size_bytes, size(subject.size_bytes), subject=True)]
    for baseline in receipt.baselines:
        if baseline.best:
            rows.append(Bar(baseline.name, baseline.size_bytes, size(baseline.size_bytes)))
    picture, score = element("figure", bars("size", "Size of the file", rows)), receipt.micronet
    if score is None:
        return section("Size", picture)
    return section("Size", picture, pairs([("MicroNet score", f"{number(score.value)}: {shorten(score.how, 120)}")]))


def _everything(receipt: Receipt) -> Markup:
    """Every measurement in a table: what the pictures show, in numbers."""
    subject = receipt.subject
    mine = [
        element("strong", "this file"),
        shorten(subject.runtime, 16),
        _ms(subject.latency_ms),
        _ms(subject.cpu_ms),
        size(subject.size_bytes),
    ]
    rows: list[list[str]] = [[*mine, fixed(subject.quality), ""]]
    for item in receipt.baselines:
        best = "the one to beat" if item.best else ""
        measured = _ms(item.latency_ms), _ms(item.cpu_ms), size(item.size_bytes), fixed(item.quality)
        rows.append([shorten(item.name, 24), shorten(item.runtime, 16), *measured, best])
    headings = ["Measured", "Runtime", ">Latency", ">Processor time", ">Size", ">Quality", "Of its precision"]
    return section("All that was measured", table("All measurements", headings, rows))


def _layers(receipt: Receipt) -> Markup | None:
    if not receipt.layers:
        return None
    scale = max(max(layer.original_ms, layer.subject_ms) for layer in receipt.layers)
    items = []
    for layer in receipt.layers:
        slower = layer.subject_ms > _SLOWER * layer.original_ms
        times_ = f"{number(layer.original_ms)} → {number(layer.subject_ms)}"
        told = element("span", f"▲ {times_}" if slower else times_, class_="slower" if slower else None)
        line = element(
            "div", element("code", shorten(layer.name, 24 if slower else 28), title=layer.name), told, class_="line"
        )
        items.append(
            element("li", line, thin_bars([("original", layer.original_ms), ("subject", layer.subject_ms)], scale))
        )
    before, after = (sum(getattr(layer, name) for layer in receipt.layers) for name in ("original_ms", "subject_ms"))
    lead = f"Milliseconds of each layer, all on one scale. Together {number(before)} → {number(after)}."
    key = element("p", _swatch("original"), _swatch("subject"), "▲ over 5 % slower", class_="key")
    return section("Layers", paragraph(lead), key, element("ol", *items, class_="layers"))


def _swatch(kind: str) -> Markup:
    name = {"original": "original, fp32", "subject": "this file"}[kind]
    square = element("rect", width=12, height=12, rx=2, class_=kind)
    return element("span", element("svg", square, width=12, height=12, aria_hidden="true"), name)


def _device(receipt: Receipt) -> Markup | None:
    return section("Device", pairs(device_facts(receipt.device))) if receipt.device else None


def _notes(receipt: Receipt) -> Markup | None:
    remarks = notes(receipt)
    return section("Notes", bullets(remarks)) if remarks else None


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{number(value)} ms"


def _small(text: str) -> Markup:
    return paragraph(text, "quiet-text")
