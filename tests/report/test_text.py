"""The receipt in a terminal."""

import re

from rich.cells import cell_len

from shoestring.core.receipt import Receipt
from shoestring.report.text import print_receipt


def test_fits_80_columns_without_colours(any_receipt: Receipt, printed) -> None:
    text = printed(print_receipt, any_receipt)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_is_written_in_any_encoding(any_receipt: Receipt, printed) -> None:
    for encoding in ("ascii", "cp1252"):
        assert any_receipt.verdict.upper()[:5] in printed(print_receipt, any_receipt, encoding=encoding)


def test_the_verdict_comes_first(holds: Receipt, fails: Receipt, noisy: Receipt, printed) -> None:
    for receipt, word in ((holds, "HOLDS"), (fails, "FAILS"), (noisy, "TOO NOISY")):
        assert printed(print_receipt, receipt).split("\n")[1].startswith(f"{word}  efficientnet_lite0.shoe on openvino")


def test_every_number_is_there(holds: Receipt, fails: Receipt, noisy: Receipt, printed, shows) -> None:
    for receipt in (holds, fails, noisy):
        text = printed(print_receipt, receipt)
        subject, quality = receipt.subject, receipt.quality
        assert quality is not None
        values = [subject.latency_ms, subject.size_bytes / 1e6, subject.peak_mb, subject.quality, subject.cpu_ms]
        values += [value for item in receipt.baselines for value in (item.latency_ms, item.size_bytes / 1e6)]
        values += [
            value
            for item in receipt.speedup
            for value in (item.ratio, item.low, item.high, item.realisation, *item.split.values())
        ]
        values += [quality.original, quality.difference, quality.low, quality.high, quality.n, quality.divergence]
        values += [100 * quality.agreement, sum(layer.original_ms for layer in receipt.layers)]
        assert [value for value in values if not shows(text, value)] == []


def test_budget_lines_say_asked_got_and_met(fails: Receipt, noisy: Receipt, printed) -> None:
    lines = [line.split() for line in printed(print_receipt, fails).splitlines()]
    assert ["latency", "≤", "1.50", "ms", "1.92", "ms", "not", "met"] in lines
    lines = [line.split() for line in printed(print_receipt, noisy).splitlines()]
    assert ["memory", "≤", "80.0", "MB", "–", "cannot", "tell"] in lines


def test_quality_that_was_not_measured_is_said(bare: Receipt, printed) -> None:
    assert "not measured" in printed(print_receipt, bare)


def test_the_micronet_score_says_what_it_is_made_of(holds: Receipt, bare: Receipt, printed) -> None:
    text = " ".join(printed(print_receipt, holds).split())
    assert "MicroNet score 0.418: 1.2M of 6.9M parameters and 286M of 1170M" in text
    assert "MicroNet" not in printed(print_receipt, bare)


def test_the_ledger_tells_what_each_step_brought(holds: Receipt, bare: Receipt, printed) -> None:
    """Against the last step that was kept: the pruning builds on int8, not on what was taken back."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed(print_receipt, holds).splitlines()]
    start = lines.index(["step", "ms", "size", "quality", "speed-up", "bytes", "points"])
    assert [line for line in lines[start + 2 : start + 8] if len(line) > 3 or line[0] == "original"] == [
        ["original", "5.61", "18.6 MB", "100"],
        ["int8", "2.51", "5.02 MB", "98.31", "2.23×", "−13.6 MB", "−1.69"],
        ["structured:2x2 on 3 layers", "2.60", "4.10 MB", "96.27", "0.97×", "−916 kB", "−2.04"],
        ["magnitude:4x1@50%", "1.92", "4.87 MB", "97.86", "1.31×", "−147 kB", "−0.45"],
    ]
    text = " ".join(printed(print_receipt, holds).split())
    assert "−2.04 taken back: slower than before magnitude:4x1@50%" in text
    assert "speed-up  bytes" not in printed(print_receipt, bare)


def test_notes_of_the_receipt_and_of_baselines(holds: Receipt, printed) -> None:
    text = " ".join(printed(print_receipt, holds).split())
    assert all(note in text for note in holds.notes)
    assert "fp32 on onnxruntime: 4 threads were offered, 2 were used" in text
