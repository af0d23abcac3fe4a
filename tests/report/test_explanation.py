"""The explanation in a terminal and as a page."""

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from shoestring.core.explanation import Effect, ExplainedLayer, Explanation
from shoestring.report.explanation import explanation_html, print_explanation

HOSTILE = "</code><script>alert(1)</script>[red]\x1b[31m" * 3


@pytest.fixture
def hostile(explanation: Explanation) -> Explanation:
    layers = tuple(
        ExplainedLayer(
            replace(item.layer, name=HOSTILE, kind=HOSTILE),
            0.1,
            (Effect(HOSTILE, HOSTILE, HOSTILE, 0.1, HOSTILE, HOSTILE),),
        )
        for item in explanation.layers
    )
    return Explanation(HOSTILE, {HOSTILE: HOSTILE}, layers, {HOSTILE: 1.0}, (HOSTILE,))


def many(explanation: Explanation) -> Explanation:
    effects = tuple(Effect("lsq+", f"w{bits}a{bits}", "stored only", 0.1 * bits) for bits in range(2, 9))
    layers = tuple(replace(item, effects=effects) for item in explanation.layers)
    return replace(explanation, layers=layers)


def test_fits_80_columns_without_colours(explanation: Explanation, hostile: Explanation, printed) -> None:
    empty = Explanation("nothing", {}, ())
    for report in (explanation, many(explanation), hostile, empty):
        for encoding in ("utf-8", "ascii"):
            text = printed(print_explanation, report, encoding=encoding)
            assert max(cell_len(line) for line in text.splitlines()) <= 80
            assert "\x1b" not in text


def test_every_setting_and_layer_is_printed_at_any_width(explanation: Explanation, printed) -> None:
    for width in (80, 200):
        lines = printed(print_explanation, many(explanation), width=width).splitlines()
        headings = [line for line in lines if line.startswith("layer")]
        assert all(any(name in line for line in headings) for name in many(explanation).settings)
        for start, count in (("feature", 30), ("classifier", 1), ("whole network", 1)):
            assert len([line for line in lines if line.startswith(start)]) == count * len(headings)


def test_one_table_where_there_is_room(explanation: Explanation, printed) -> None:
    text = printed(print_explanation, explanation, width=160)
    row = next(line for line in text.splitlines() if line.startswith("features.0.block.expand.conv"))
    cells = ["conv", "16×112² → 96×112²", "19.3", "6.53", "0.242", "runs 0.104", "stored only 0.246"]
    assert re.split(r"\s{2,}", row.strip())[1:] == cells


def test_the_whole_network_comes_last(explanation: Explanation, printed) -> None:
    rows = [
        line for line in printed(print_explanation, explanation, width=160).splitlines() if line.startswith("whole")
    ]
    assert [row.split()[2:] for row in rows] == [["393", "5,293", "5.61", "2.51", "5.70"]]


def test_the_page_is_well_formed_and_runs_nothing(explanation: Explanation, hostile: Explanation, read_page) -> None:
    for report in (explanation, many(explanation), hostile, Explanation("nothing", {}, ())):
        document = explanation_html(report)
        page = read_page(document)
        assert not re.search(r"<script|@import|url\(|https?://", document)
        assert not {name for _, found in page.tags for name in found} & {"src", "href", "style", "onerror"}
        assert "prefers-color-scheme: dark" in document


def test_the_page_shows_every_time_and_verdict(explanation: Explanation, read_page, shows) -> None:
    text = read_page(explanation_html(explanation)).text()
    times = [effect.ms for item in explanation.layers for effect in item.effects if effect.ms is not None]
    assert all(shows(text, time) for time in (*times, *explanation.totals.values()))
    for verdict in ("runs", "slower", "stored only", "no effect", "unknown"):
        assert verdict in text


def test_bars_of_the_layers_share_one_scale(explanation: Explanation) -> None:
    dense = explanation_html(explanation).split('class="dense"')[1]
    widths = [float(width) for width in re.findall(r'<rect x="0" y="1" width="([\d.]+)%"', dense)]
    assert widths == pytest.approx([100, 100 * 0.0713 / 0.2418, 100] * 10, abs=1e-3)
