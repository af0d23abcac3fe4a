"""The receipt as a page: complete, safe with names from strangers, and right about the numbers."""

import re

import pytest

from shoestring.core.receipt import Receipt
from shoestring.report.html import receipt_html
from shoestring.report.wording import clean


def numbers(data: object) -> list[float]:
    """Every number of a receipt's JSON."""
    if isinstance(data, dict):
        return [found for value in data.values() for found in numbers(value)]
    if isinstance(data, list | tuple):
        return [found for value in data for found in numbers(value)]
    return [data] if isinstance(data, int | float) and not isinstance(data, bool) else []


def test_is_one_well_formed_file_that_loads_and_runs_nothing(any_receipt: Receipt, read_page) -> None:
    document = receipt_html(any_receipt)
    page = read_page(document)
    assert not re.search(r"<script|@import|url\(|https?://", document, re.IGNORECASE)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in {"src", "href", "xlink:href", "style"}]


def test_identifiers_are_unique_and_point_somewhere(any_receipt: Receipt, read_page) -> None:
    attributes = [attributes for _, attributes in read_page(receipt_html(any_receipt)).tags]
    ids = [found["id"] for found in attributes if "id" in found]
    assert len(ids) == len(set(ids))
    pointers = {
        found[name] for found in attributes for name in ("aria-labelledby", "aria-describedby") if name in found
    }
    assert pointers == set(ids)


def test_every_picture_is_named_or_hidden(holds: Receipt, read_page) -> None:
    pictures = read_page(receipt_html(holds)).find("svg")
    assert len(pictures) > 60
    assert all("aria-hidden" in picture or "aria-labelledby" in picture for picture in pictures)


def test_both_colour_schemes_and_the_phone(holds: Receipt) -> None:
    document = receipt_html(holds)
    assert "prefers-color-scheme: dark" in document
    assert '<meta name="color-scheme" content="light dark">' in document
    assert "width=device-width" in document


@pytest.mark.parametrize("name", ["holds", "fails", "noisy", "bare"])
def test_every_number_is_there(name: str, request: pytest.FixtureRequest, read_page, shows) -> None:
    receipt = request.getfixturevalue(name)
    text = read_page(receipt_html(receipt)).text()
    data = receipt.to_json()
    data.pop("schema")

    def is_shown(value: float) -> bool:
        return any(shows(text, value * factor) for factor in (1, 1e-3, 1e-6, 100))

    found = numbers(data)
    assert len(found) > 100 or name == "bare"
    assert [value for value in found if value and not is_shown(value)] == []


def test_verdicts_differ_in_words(holds: Receipt, fails: Receipt, noisy: Receipt, read_page) -> None:
    for receipt, word in ((holds, "Holds"), (fails, "Fails"), (noisy, "Too noisy to say")):
        assert word in read_page(receipt_html(receipt)).text("strong")


def test_a_noisy_machine_gets_no_headline(noisy: Receipt, read_page) -> None:
    page = read_page(receipt_html(noisy))
    assert "1.31" not in page.text("dl")
    assert "No speed-up is claimed" in page.text()


def test_the_budget_is_answered_in_words(fails: Receipt, noisy: Receipt, holds: Receipt, read_page) -> None:
    for receipt, words in ((holds, "✓ met"), (fails, "✕ not met"), (noisy, "? cannot tell")):
        assert words in read_page(receipt_html(receipt)).text("td")


def test_latency_bars_are_proportional(holds: Receipt, read_page) -> None:
    drawing = receipt_html(holds).split('aria-labelledby="latency-title"')[1].split("</svg>")[0]
    lengths = re.findall(r'<rect x="0.000%" y="[\d.]+" width="([\d.]+)%"', drawing)
    values = [holds.subject.latency_ms, *(baseline.latency_ms for baseline in holds.baselines)]
    assert [float(length) for length in lengths] == pytest.approx([100 * value / 6.288 for value in values], abs=1e-3)


def test_every_layer_is_there_with_its_whole_name(holds: Receipt, read_page) -> None:
    titles = [code.get("title") for code in read_page(receipt_html(holds)).find("code")]
    assert titles == [layer.name for layer in holds.layers]


def test_the_ledger_tells_what_each_step_brought(holds: Receipt, bare: Receipt, read_page) -> None:
    """Against the last step that was kept: the pruning builds on int8, not on what was taken back."""
    document = receipt_html(holds)
    inside = document.split('aria-label="The ledger"')[1].split("</table>")[0]
    cells = re.findall(r"<td[^>]*><span[^>]*>([^<]*)</span>", inside)
    assert cells == [
        *("5.61", "18.6 MB", "100", "", "", ""),
        *("2.51", "5.02 MB", "98.31", "2.23×", "−13.6 MB", "−1.69"),
        *("2.60", "4.10 MB", "96.27", "0.97×", "−916 kB", "−2.04"),
        *("1.92", "4.87 MB", "97.86", "1.31×", "−147 kB", "−0.45"),
    ]
    assert '<div class="nil">taken back: slower than before</div>' in inside
    order = ["<h2>Budget", "<h2>What each step brought", "<h2>Where the speed comes from"]
    assert sorted(order, key=document.index) == order
    assert "What each step brought" not in read_page(receipt_html(bare)).text("h2")


def test_a_ledger_with_hostile_names(hostile: Receipt, read_page) -> None:
    titles = [found.get("title") for found in read_page(receipt_html(hostile)).find("span")]
    assert clean(hostile.ledger[0].step) in titles


def test_what_was_not_measured_is_said(bare: Receipt, read_page) -> None:
    text = read_page(receipt_html(bare)).text()
    assert "Quality was not measured" in text
    assert "No budget was set" in text


def test_hostile_names_are_shown_as_text(hostile: Receipt, read_page) -> None:
    page = read_page(receipt_html(hostile))
    assert clean(hostile.subject.file) in page.text("h1")
    assert "<script>alert(1)</script>" in page.text("li")
