"""The front in a terminal and as a page."""

import re
from dataclasses import replace

from rich.cells import cell_len

from shoestring.core.front import Front
from shoestring.report.front import front_html, print_front
from shoestring.report.wording import clean


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_fits_80_columns_without_colours(front: Front, unjudged: Front, hostile_front: Front, printed) -> None:
    for report in (front, unjudged, hostile_front, replace(front, points=(), baselines=(), device={})):
        for encoding in ("utf-8", "ascii"):
            text = printed(print_front, report, encoding=encoding)
            assert max(cell_len(line) for line in text.splitlines()) <= 80
            assert "\x1b" not in text


def test_a_line_for_each_point(front: Front, printed) -> None:
    found = rows(printed(print_front, front))
    assert ["point", "ms", "size", "speed-up", "quality", "change", "95 %", "verdict"] in found
    assert ["1", "0.580", "1.21 MB", "9.70×", "68.13", "−6.70", "−7.61 to −5.82", "fails"] in found
    assert ["5", "2.31", "3.99 MB", "2.43×", "74.63", "−0.20", "−0.51 to +0.14", "too noisy"] in found
    assert ["2", "latency<=0.87ms", "engine", "net-1.shoe"] in found
    assert ["int8", "openvino", "2.51", "5.02 MB", "74.06"] in found


def test_what_nobody_needs_is_named(front: Front, printed) -> None:
    assert "Point 3 is dominated: another is no slower and no worse." in printed(print_front, front)
    both = tuple(replace(point, dominated=index in (1, 2)) for index, point in enumerate(front.points))
    assert "Points 2, 3 are dominated" in printed(print_front, replace(front, points=both))
    none = tuple(replace(point, dominated=False) for point in front.points)
    assert "dominated" not in printed(print_front, replace(front, points=none))


def test_limits_that_could_not_be_met_are_noted(front: Front, printed, read_page) -> None:
    assert front.notes[0] in " ".join(printed(print_front, front).split())
    assert front.notes[0] in read_page(front_html(front)).text("li")


def test_without_a_quality_there_are_a_table_and_bars(unjudged: Front, printed, read_page) -> None:
    found = rows(printed(print_front, unjudged))
    assert ["point", "ms", "size", "speed-up", "verdict"] in found
    assert ["1", "0.580", "1.21 MB", "9.70×", "fails"] in found
    page = read_page(front_html(unjudged))
    assert page.find("circle") == []
    widths = [float(bar["width"].rstrip("%")) for bar in page.find("rect", class_="subject")]
    assert [round(6.288 * width / 100, 3) for width in widths] == [0.58, 0.87, 1.13, 1.62, 2.31]
    assert len(page.find("rect", class_="original")) == len(unjudged.baselines)


def test_the_page_is_well_formed_and_runs_nothing(
    front: Front, unjudged: Front, hostile_front: Front, read_page
) -> None:
    for report in (front, unjudged, hostile_front, replace(front, points=(), baselines=(), device={}, notes=())):
        document = front_html(report)
        page = read_page(document)
        assert not re.search(r"<script|@import|url\(|https?://", document, re.IGNORECASE)
        assert not {name for _, found in page.tags for name in found} & {"src", "href", "style", "onerror"}
        assert "prefers-color-scheme: dark" in document


def test_the_page_shows_every_number(front: Front, read_page, shows) -> None:
    text = read_page(front_html(front)).text("table")
    for point in front.points:
        numbers = point.latency_ms, point.size_bytes / 1e6, point.speedup, point.quality, point.difference
        assert all(shows(text, value) for value in (*numbers, point.low, point.high))
        assert point.file in text
        assert point.asked in text


def test_the_numbers_one_looks_for_first(front: Front, read_page) -> None:
    text = " ".join(read_page(front_html(front)).text("dl").split())
    assert "Fastest 0.580 ms point 1, 9.70× over fp32" in text
    assert "Smallest 1.21 MB point 1" in text
    assert "Best quality 74.63 point 5, top-1, −0.20 pt to the original" in text


def test_hostile_names_are_shown_as_text(front: Front, hostile_front: Front, read_page) -> None:
    page = read_page(front_html(hostile_front))
    assert clean(hostile_front.model) in page.text("h1")
    assert clean(hostile_front.points[0].file) in [found.get("title") for found in page.find("code")]
    points = (replace(front.points[0], file="<b>&", asked="<i>&", runtime="<u>&", verdict="<s>&"),)
    document = front_html(replace(front, points=points, metric="<q>&"))
    assert all(f"&lt;{name}&gt;&amp;" in document for name in "biusq")
    assert not re.search(r"<[biusq]>&", document)
