"""The proposal in a terminal and as a page."""

import re
from dataclasses import replace

from rich.cells import cell_len

from shoestring.core.proposal import Considered, PlannedLayer, Proposal
from shoestring.report.proposal import print_proposal, proposal_html
from shoestring.report.wording import clean

WHY = "latency<=1ms cannot be met: the cheapest plan takes 1.23 ms; write latency<=1.3ms or quality>=-4pt. " * 3


def wide(proposal: Proposal) -> Proposal:
    """65 layers with long names and the widest numbers there may be."""
    options = (
        Considered("structured:2x2+magnitude:4x1@50%+lsq+:w4a8", 1234.5, 999_900_000, 1.0, 0.2),
        Considered("int8:" + "x" * 60, 0.0042, 999_900, 0.000123, 1e-6),
    )
    layers = tuple(
        PlannedLayer(f"backbone.blocks.{i}.2.depthwise_convolution.conv", options, options[0].option, options[1].option)
        for i in range(65)
    )
    return replace(proposal, layers=layers)


def unwrapped(text: str) -> list[str]:
    """Without the lines of the command, which are never wrapped."""
    lines = text.splitlines()
    return [line for line in lines if not line.startswith(("shoestring fit MODEL", "--method"))]


def test_fits_without_colours(proposal: Proposal, hostile_proposal: Proposal, printed) -> None:
    for width in (80, 100):
        for report in (proposal, wide(proposal), hostile_proposal, replace(proposal, layers=())):
            for encoding in ("utf-8", "ascii"):
                text = printed(print_proposal, report, width=width, encoding=encoding)
                assert max(cell_len(line) for line in unwrapped(text)) <= width
                assert "\x1b" not in text


def test_the_layer_table_tells_the_pick_and_below_it_the_next_best(proposal: Proposal, printed) -> None:
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed(print_proposal, proposal, width=100).splitlines()]
    start = lines.index(["layer", "option", "ms", "size", "error %", "noise"])
    assert lines[start + 2 : start + 7] == [
        ["blocks.0.0.depthwise_conv", "fp32", "0.200", "40.0 kB", "0"],
        ["blocks.0.1.expand_conv", "magnitude:4x1@50%", "0.045", "6.00 kB", "5.00", "0.20"],
        ["or int8", "0.072", "10.0 kB", "1.00", "0.10"],
        ["blocks.0.2.project_conv", "magnitude:4x1@50%", "0.041", "6.00 kB", "5.00", "0.20"],
        ["or int8", "0.065", "10.0 kB", "1.00", "0.10"],
    ]


def test_long_names_keep_both_ends_at_100_columns(proposal: Proposal, printed) -> None:
    lines = printed(print_proposal, wide(proposal), width=100).splitlines()
    rows = [line for line in lines if line.startswith("backbone")]
    assert len(rows) == 65
    assert all("conv " in row and "structured:" in row and "w4a8" in row for row in rows)
    assert all("1,234" in row and "1,000 MB" in row for row in rows)  # 1234.5 is rounded to even


def test_the_head_says_whether_the_budget_holds_and_why_not_in_full(proposal: Proposal, printed) -> None:
    text = printed(print_proposal, proposal)
    assert text.split("\n")[1] == "Expected to meet the budget: efficientnet_lite0"
    assert "latency<=2ms, size<=4MB, quality>=-1pt" in text
    text = printed(print_proposal, replace(proposal, met=False, reason=WHY))
    assert text.split("\n")[1] == "Not expected to meet the budget: efficientnet_lite0"
    assert WHY.strip() in " ".join(text.split())


def test_totals_prices_gap_options_and_runtimes(proposal: Proposal, printed) -> None:
    text = printed(print_proposal, proposal, width=100)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "latency 5.61 ms 1.92 ms 0.34× ≤ 2.00 ms met" in lines
    assert "output error – 12.3 % – ≤ 14.1 % met" in lines
    assert "price one more 0.1 ms would take the output error from 12.3 % to 11.8 %" in lines
    assert "no plan has less than 12.0 %" in text
    assert "gap " not in printed(print_proposal, replace(proposal, gap=0.0))
    assert "magnitude:4x1@50% 8 0.226 48.0 kB" in lines
    assert "openvino 2.41 ms 4.20 MB 17.7 %" in lines
    assert "engine 1.92 ms 3.87 MB 12.3 % taken" in lines
    assert "note No labels: quality is judged by the outputs." in lines


def test_the_command_can_be_copied_from_a_narrow_terminal(proposal: Proposal, printed) -> None:
    method = "magnitude:4x1@50%:" + ",".join(f"blocks.{i}.*" for i in range(20))
    lines = printed(print_proposal, replace(proposal, methods=("int8", method))).splitlines()
    start = lines.index("shoestring fit MODEL \\")
    assert lines[start + 1 : start + 3] == ["--method int8 \\", f"--method '{method}'"]


def test_the_page_is_well_formed_and_runs_nothing(proposal: Proposal, hostile_proposal: Proposal, read_page) -> None:
    for report in (proposal, wide(proposal), hostile_proposal, replace(proposal, layers=(), runtimes={}, methods=())):
        document = proposal_html(report)
        page = read_page(document)
        assert not re.search(r"<script|@import|url\(|https?://", document, re.IGNORECASE)
        assert not {name for _, found in page.tags for name in found} & {"src", "href", "style", "onerror"}
        assert "prefers-color-scheme: dark" in document
        ids = [found["id"] for _, found in page.tags if "id" in found]
        assert len(ids) == len(set(ids))


def test_hostile_names_are_shown_as_text(hostile_proposal: Proposal, read_page) -> None:
    page = read_page(proposal_html(hostile_proposal))
    assert clean(hostile_proposal.model) in page.text("h1")
    assert clean(hostile_proposal.reason) in page.text("p")
    assert clean(hostile_proposal.layers[0].layer) in [found.get("title") for found in page.find("code")]


def test_names_with_markup_are_escaped(proposal: Proposal) -> None:
    layer = PlannedLayer("<b>&", (Considered("<i>&", 0.1, 10, 0.01),), "<i>&")
    document = proposal_html(replace(proposal, model="<u>&", layers=(layer,), reason="<s>&", methods=("<q>&",)))
    assert all(f"&lt;{name}&gt;&amp;" in document for name in "biusq")
    assert not re.search(r"<[biusq]>&", document)


def test_the_page_shows_every_option_of_every_layer(proposal: Proposal, read_page) -> None:
    page = read_page(proposal_html(proposal))
    assert len(page.find("details")) == 12
    drawn = [found for found in page.find("circle") if found["cx"] != "7"]  # those of the key apart
    assert len(drawn) == sum(len(layer.options) for layer in proposal.layers)
    text = page.text("details")
    for number in ("0.200", "0.072", "0.045", "0.018", "5.00 ± 0.20 %", "1.00 ± 0.10 %", "20.0 %"):
        assert number in text


def test_the_page_answers_the_budget(proposal: Proposal, read_page) -> None:
    text = " ".join(read_page(proposal_html(proposal)).text().split())
    assert "Expected to meet the budget" in text
    assert "Latency 1.92 ms 0.34× of 5.61 ms, ≤ 2.00 ms asked" in text
    assert "Output error ≤ 14.1 % 12.3 % ✓ met" in text
    assert "One more 0.1 ms would take the output error from 12.3 % to 11.8 %." in text
    assert "8 of 12 are changed" in text
    assert "shoestring fit MODEL \\ --method magnitude:4x1@50% \\ --method 'int8:blocks.0.*=dense'" in text
    text = read_page(proposal_html(replace(proposal, met=False, reason=WHY))).text()
    assert "Not expected to meet the budget" in text
    assert WHY in text
