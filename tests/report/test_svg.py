"""Pictures: the geometry read back from the SVG is the data."""

import pytest

from shoestring.report.svg import Bar, Span, bars, mark, span, thin_bars, waterfall


def widths(page, *kinds: str) -> list[float]:
    """Widths of the bars of some classes, per cent, from top to bottom."""
    found = [rect for rect in page.find("rect") if rect.get("class") in kinds]
    return [float(rect["width"].rstrip("%")) for rect in sorted(found, key=lambda rect: float(rect["y"]))]


def lines(page, kind: str) -> list[tuple[float, ...]]:
    return [
        tuple(float(line[name].rstrip("%")) for name in ("x1", "y1", "x2", "y2"))
        for line in page.find("line", class_=kind)
    ]


def test_bars_are_as_long_as_their_values(read_page) -> None:
    rows = [Bar("a", 1.5, "1.50 ms", subject=True), Bar("b", 6.0, "6.00 ms"), Bar("c", 0.0, "0 ms")]
    page = read_page(bars("k", "t", rows))
    assert widths(page, "original", "subject") == [25.0, 100.0, 0.0]
    assert len(page.find("rect", class_="subject")) == 1


def test_whiskers_share_the_scale_of_the_bars(read_page) -> None:
    page = read_page(bars("k", "t", [Bar("a", 4.0, "4", low=3.0, high=8.0), Bar("b", 2.0, "2")]))
    assert widths(page, "original") == [50.0, 25.0]
    assert (37.5, 100.0) in [(x1, x2) for x1, _, x2, _ in lines(page, "whisker")]


@pytest.mark.parametrize(("value", "length"), [(float("nan"), 0.0), (-1.0, 0.0), (float("inf"), 100.0)])
def test_what_has_no_length_stays_inside(read_page, value: float, length: float) -> None:
    page = read_page(bars("k", "t", [Bar("a", value, "?"), Bar("b", 2.0, "2", low=1.0, high=float("inf"))]))
    assert widths(page, "original") == [length, 100.0]
    assert (50.0, 100.0) in [(x1, x2) for x1, _, x2, _ in lines(page, "whisker")]


def test_a_picture_without_rows_is_empty(read_page) -> None:
    assert read_page(bars("k", "t", [])).find("rect") == []


def test_the_waterfall_ends_where_the_factors_lead(read_page) -> None:
    page = read_page(waterfall("k", "t", ("before", "after"), {"runtime": 1.25, "precision": 2.0, "structure": 1.6}))
    assert widths(page, "original", "gain", "subject") == pytest.approx([100, 20, 40, 15, 25])
    left = [float(rect["x"].rstrip("%")) for rect in page.find("rect", class_="gain")]
    assert left == pytest.approx([80, 40, 25])
    assert "25.0 %" in page.text("text")


def test_a_factor_that_costs_time_is_drawn_and_named_as_a_loss(read_page) -> None:
    page = read_page(waterfall("k", "t", ("before", "after"), {"runtime": 0.5, "precision": 4.0}))
    assert widths(page, "original", "loss", "gain", "subject") == pytest.approx([50, 50, 75, 25])
    assert "slower" in page.text("text")


def test_the_span_keeps_the_proportions_of_its_numbers(read_page) -> None:
    page = read_page(span("k", "t", Span(-0.62, -0.94, -0.31, -1.0, "pt")))
    (zero, *_), (limit, *_) = lines(page, "zero")[0], lines(page, "limit")[0]
    per_point = zero - limit  # a limit of one point
    point = float(page.find("circle")[0]["cx"].rstrip("%"))
    (interval,) = page.find("rect", class_="interval")
    low = float(interval["x"].rstrip("%"))
    assert (zero - point) / per_point == pytest.approx(0.62, abs=1e-3)
    assert (zero - low) / per_point == pytest.approx(0.94, abs=1e-3)
    assert float(interval["width"].rstrip("%")) / per_point == pytest.approx(0.63, abs=1e-3)
    assert widths(page, "beyond") == [limit]
    assert 0 < limit < low < point < zero < 100


def test_a_span_without_limit_or_width_can_be_drawn(read_page) -> None:
    page = read_page(span("k", "t", Span(0.0, 0.0, 0.0, None, "pt")))
    assert page.find("line", class_="limit") == []
    assert 0 < float(page.find("circle")[0]["cx"].rstrip("%")) < 100


def test_an_endless_interval_ends_at_the_edges(read_page) -> None:
    page = read_page(span("k", "t", Span(-1.0, float("-inf"), float("inf"), -2.0, "pt")))
    assert widths(page, "interval") == [100.0]


def test_thin_bars_share_a_scale(read_page) -> None:
    page = read_page(thin_bars([("original", 0.2), ("subject", 0.05)], 0.4))
    assert widths(page, "original", "subject") == [50.0, 12.5]


def test_pictures_tell_what_they_show(read_page) -> None:
    page = read_page(bars("k", "Latency", [Bar("a<b", 1.5, "1.50 ms", "2.0×")]))
    (picture,) = page.find("svg")
    assert (picture["role"], picture["aria-labelledby"], picture["aria-describedby"]) == ("img", "k-title", "k-desc")
    assert page.text("title") == "Latency"
    assert page.text("desc") == "a<b: 1.50 ms 2.0×"


def test_verdicts_have_signs_of_their_own() -> None:
    assert len({mark("holds"), mark("fails"), mark("too noisy")}) == 3
