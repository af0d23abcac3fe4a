"""A proposal in rows and sentences: right about the numbers, and no promise that a price does not make."""

import re
import shlex
from dataclasses import replace

import pytest

from shoestring.core.proposal import Considered, Proposal
from shoestring.report.planned import (
    by_option,
    command,
    gap,
    noise,
    percent,
    prices,
    root,
    runner_up,
    runtimes,
    totals,
)


def priced(proposal: Proposal, **price: float) -> list[str]:
    return list(prices(replace(proposal, prices=price)))


def test_errors_are_roots_of_losses() -> None:
    assert root(0.04) == pytest.approx(20.0)
    assert root(-1e-9) == 0.0
    assert percent(0.04) == "20.0 %"


def test_noise_of_the_root_where_the_loss_is_small_or_zero() -> None:
    """By the slope of the root, 0.5 * 0.0002 / sqrt(0.01); at zero there is no slope, but an interval."""
    assert noise(Considered("a", 1.0, 1, 0.01, 0.0002)) == "0.1"
    assert noise(Considered("a", 1.0, 1, 0.0, 0.0004)) == "1.000"
    assert noise(Considered("a", 1.0, 1, 0.01)) == ""


def test_totals_against_limits(proposal: Proposal) -> None:
    latency, size, loss = totals(proposal)
    told = latency.name, latency.original, latency.planned, latency.ratio, latency.limit, latency.met
    assert told == ("latency", "5.61 ms", "1.92 ms", "0.34×", "≤ 2.00 ms", True)
    assert (size.original, size.planned, size.ratio) == ("18.6 MB", "3.87 MB", "0.21×")
    assert (loss.name, loss.original, loss.planned, loss.limit) == ("output error", "–", "12.3 %", "≤ 14.1 %")


def test_a_limit_that_is_missed_and_none_at_all(proposal: Proposal) -> None:
    changed = replace(proposal, limits={"latency": 1.9})
    assert [total.met for total in totals(changed)] == [False, None, None]
    rounded = replace(proposal, limits={"latency": 1.921 / (1 + 5e-9)})
    assert next(totals(rounded)).met is True


def test_a_price_in_words(proposal: Proposal) -> None:
    """0.1 ms, a twentieth of 2 ms: sqrt(0.0151 - 0.0012) is 11.8 %."""
    assert priced(proposal, latency=0.012) == ["one more 0.1 ms would take the output error from 12.3 % to 11.8 %"]
    assert priced(proposal, size=5e-9) == ["one more 200 kB would take the output error from 12.3 % to 11.9 %"]


@pytest.mark.parametrize("price", [0.02, 1.0, 1e3, 1e9])
def test_no_price_promises_more_than_half_of_the_loss(proposal: Proposal, price: float) -> None:
    (told,) = priced(proposal, latency=price)
    before, after = (float(found) for found in re.findall(r"([\d.]+) %", told))
    assert before / 2**0.5 - 0.1 <= after < before


def test_a_price_of_nothing(proposal: Proposal) -> None:
    assert priced(proposal, size=0.0) == ["more room in size would not lower the output error"]
    assert priced(replace(proposal, totals={"loss": 0.0}), latency=1.0)[0].startswith("more room in latency would not")
    assert priced(proposal, loss=1.0) == []


def test_the_gap(proposal: Proposal) -> None:
    assert gap(proposal) == "this plan has an output error of 12.3 %; no plan has less than 12.0 %"
    assert gap(replace(proposal, gap=0.0)) == ""
    assert gap(replace(proposal, gap=1.0)).endswith("less than 0 %")


def test_the_runner_up_is_an_option_or_nothing(proposal: Proposal) -> None:
    found = [runner_up(layer) for layer in proposal.layers[:2]]
    assert found[0] is None
    assert found[1] is proposal.layers[1].options[1]


def test_options_are_counted_and_added(proposal: Proposal) -> None:
    first, second = by_option(proposal)
    dense, sparse = (
        sum(base * 0.9**i for i in at) for base, at in ((0.2, (0, 3, 6, 9)), (0.05, (1, 2, 4, 5, 7, 8, 10, 11)))
    )
    assert first[:2] == ("fp32", 4)
    assert second[:2] == ("magnitude:4x1@50%", 8)
    assert (first[2], second[2]) == (pytest.approx(dense), pytest.approx(sparse))
    assert (first[3], second[3]) == (160_018, 48_048)


def test_the_runtime_that_was_taken_is_marked(proposal: Proposal) -> None:
    assert list(runtimes(proposal)) == [
        ["engine", "1.92 ms", "3.87 MB", "12.3 %", "taken"],
        ["openvino", "2.41 ms", "4.20 MB", "17.7 %", ""],
    ]


def test_the_command_is_read_back_by_a_shell(proposal: Proposal) -> None:
    methods = ("a b:'c'", "int8:$(rm)", "lsq+:w4a8")
    words = shlex.split(" ".join(command(replace(proposal, methods=methods))))
    assert words == ["shoestring", "fit", "MODEL", *(word for method in methods for word in ("--method", method))]
