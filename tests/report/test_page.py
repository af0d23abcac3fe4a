"""The page: well-formed, self-contained, legible in both colour schemes."""

import re

import pytest

from shoestring.report import page


def sheet() -> str:
    return page.page("t").split("<style>")[1].split("</style>")[0]


def colours(scheme: str) -> dict[str, str]:
    light, dark = sheet().split("@media (prefers-color-scheme: dark)", 1)
    block = light if scheme == "light" else dark.split("* {", 1)[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_oracle_knows_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_bars_have_contrast(scheme: str) -> None:
    """4.5 for text, 3 for graphics (WCAG 1.4.3 and 1.4.11)."""
    palette = colours(scheme)
    texts = [("ink", "paper"), ("quiet", "paper"), ("accent", "paper"), ("bad", "paper"), ("doubt", "paper")]
    texts += [(word, f"{ground}-ground") for word, ground in (("accent", "good"), ("bad", "bad"), ("doubt", "doubt"))]
    texts += [("ink", f"{ground}-ground") for ground in ("good", "bad", "doubt")]
    assert {
        pair: contrast(*(palette[name] for name in pair))
        for pair in texts
        if contrast(*(palette[name] for name in pair)) < 4.5
    } == {}
    assert min(contrast(palette[name], palette["paper"]) for name in ("original", "accent")) >= 3


def test_every_colour_has_a_dark_twin_and_is_used() -> None:
    assert colours("light").keys() == colours("dark").keys()
    used = set(re.findall(r"var\(--([\w-]+)\)", sheet())) - {"tone"}
    assert used == colours("light").keys()


def test_nothing_is_loaded_and_nothing_runs() -> None:
    document = page.page("t", page.section("s", page.paragraph("p")))
    assert not re.search(r"<script|<link|<iframe|@import|url\(|https?://", document)
    assert "default-src 'none'" in document


def test_tables_name_their_rows_and_columns(read_page) -> None:
    table = read_page(page.table("About <b>", ["Name", ">ms"], [["a", "1"], ["b", "2"]]))
    assert [cell["scope"] for cell in table.find("th")] == ["col", "col", "row", "row"]
    assert [cell.get("class") for cell in table.find("td")] == ["number", "number"]
    assert table.text("caption") == "About <b>"


def test_a_table_with_a_missing_cell_is_our_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        page.table("t", ["Name", ">ms"], [["a"]])
