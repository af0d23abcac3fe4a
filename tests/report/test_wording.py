"""Numbers and sentences: rounding against Python's own, claims against what the intervals allow."""

import math
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.receipt import BudgetLine, Receipt, Step
from shoestring.report import wording


@given(st.text())
def test_clean_leaves_only_what_is_seen(text: str) -> None:
    cleaned = wording.clean(text)
    assert len(cleaned) == len(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in cleaned)


@given(st.text(), st.integers(3, 60))
def test_shorten_keeps_both_ends(text: str, width: int) -> None:
    short = wording.shorten(text, width)
    if len(text) <= width:
        assert short == text
    else:
        head, tail = short.split("…", 1) if "…" not in text else (short[: width // 2], short[width // 2 + 1 :])
        assert len(short) == width
        assert text.startswith(head)
        assert text.endswith(tail)


@pytest.mark.parametrize(("show", "off"), [(wording.number, 1e-9), (wording.fixed, 0.00501)])
@given(st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-6))
def test_numbers_are_rounded_not_changed(show, off: float, value: float) -> None:
    read = float(show(value).replace("−", "-").replace(",", ""))
    assert math.isclose(read, value, rel_tol=0.051, abs_tol=off)
    assert math.copysign(1, read) == math.copysign(1, value) or value == 0


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    assert wording.number(value) == wording.fixed(value) == "–"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.921, "ms", "1.92 ms"),
        (4_873_216, "B", "4.87 MB"),
        (-0.62, "pt", "−0.62 pt"),
        (0.25, "pt", "+0.25 pt"),
        (0.342, "x", "0.34×"),
        (61.4, "MB", "61.4 MB"),
        (None, "ms", "–"),
    ],
)
def test_quantities_carry_their_unit(value: float | None, unit: str, text: str) -> None:
    assert wording.quantity(value, unit) == text


def test_only_quality_is_bounded_from_below() -> None:
    assert wording.asked(BudgetLine("quality", -1.0, None, "pt", None)) == "≥ −1.00 pt"
    assert wording.asked(BudgetLine("latency", 2.0, None, "ms", None)) == "≤ 2.00 ms"


def test_the_claim_is_against_the_fastest_baseline(holds: Receipt) -> None:
    assert wording.speed_claim(holds).startswith("1.31 times as fast as int8 on openvino")


def test_a_slower_file_is_called_slower(fails: Receipt) -> None:
    assert wording.speed_claim(fails).startswith("Slower: 0.91 times")


def test_an_interval_around_one_claims_nothing(holds: Receipt) -> None:
    equal = replace(holds, speedup=(replace(holds.speedup[2], ratio=1.01, low=0.98, high=1.04),))
    assert "No difference in speed to int8 on openvino can be shown" in wording.speed_claim(equal)


def test_a_noisy_machine_claims_nothing(noisy: Receipt) -> None:
    claim = wording.speed_claim(noisy)
    assert claim.startswith("No speed-up is claimed")
    assert "1.31" not in claim


def test_limits_that_are_not_met_are_named(fails: Receipt, holds: Receipt) -> None:
    reason = wording.verdict_reason(fails)
    assert "latency ≤ 1.50 ms asked, 1.92 ms measured" in reason
    assert "quality ≥ −0.50 pt asked, −0.62 pt measured" in reason
    assert "Every limit" in wording.verdict_reason(holds)


def test_a_baseline_is_the_best_of_its_name(holds: Receipt) -> None:
    reversed_ = replace(holds, baselines=holds.baselines[::-1])
    found = wording.baseline_of(reversed_, holds.speedup[0])
    assert found is not None
    assert (found.name, found.runtime) == ("fp32", "openvino")


def test_device_entries_are_flat_lines() -> None:
    device = {"isa": ("avx2", "fma"), "versions": {"a": "1", "b": None}, "peak_mb": 3, "capabilities": [{"x": 1}]}
    assert wording.device_facts(device) == [("isa", "avx2, fma"), ("versions", "a 1, b –"), ("peak mb", "3")]


def test_capitals_leave_units_and_the_sign_of_numbers() -> None:
    assert [wording.capital(name) for name in ("point", ">size", ">ms", ">95 %", "")] == [
        "Point",
        ">Size",
        ">ms",
        ">95 %",
        "",
    ]


def test_a_step_is_compared_with_the_last_one_that_was_kept(holds: Receipt) -> None:
    steps = (
        Step("original", 4.0, 4000, 100.0),
        Step("a", 2.0, 1000, 99.0),
        Step("b", 2.5, 1500, 98.0, False, "slower"),
        Step("c", 2.1, 900, 97.0, False),
        Step("d", 1.0, 1000, 99.5, note="the rest"),
    )
    told = list(wording.ledger(replace(holds, ledger=steps)))
    assert [step for step, _ in told] == list(steps)
    assert [cells[3:] for _, cells in told] == [
        ["", "", ""],
        ["2.00×", "−3.00 kB", "−1.00"],
        ["0.80×", "+500 B", "−1.00"],
        ["0.95×", "−100 B", "−2.00"],
        ["2.00×", "0 B", "+0.50"],
    ]
    assert [wording.remark(step) for step in steps] == ["", "", "taken back: slower", "taken back", "the rest"]
