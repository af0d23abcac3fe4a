"""The timeline: marks where the frames were, bands where the load was, and a page that says it in words."""

import re
import xml.dom.minidom
from dataclasses import replace

import pytest

from shoestring.core.timeline import Timeline, Turn
from shoestring.report.timeline import lapse, timeline_html, timeline_svg

TURNS = tuple(
    Turn(index % 2, 50.0 if index == 7 else 10.0 + index, 33.0, index == 7, at_s=0.1 * index, busy=2 * (3 <= index < 6))
    for index in range(10)
)
TIMELINE = Timeline("<x>.shoe", 33.0, ("point 0", "point 1"), TURNS, (60.0, 70.0))
END = 0.9 + 0.019


def long(frames: int) -> Timeline:
    turns = [Turn(i % 3, 5.0 + i % 20, 33.0, False, at_s=0.01 * i, busy=(i // 2000) % 2) for i in range(frames)]
    return Timeline("x.shoe", 33.0, ("point 0", "point 1", "point 2"), tuple(turns))


def test_a_dot_a_frame_where_it_belongs() -> None:
    drawn = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)" r="2.2"', lapse(TIMELINE))
    expected = sorted((9 + 88 * turn.at_s / END, 320 - 290 * turn.ms / 50) for turn in TURNS)
    assert sorted((float(x), float(y)) for x, y in drawn) == [pytest.approx(place, abs=0.06) for place in expected]


def test_what_was_late_has_a_ring_that_says_so() -> None:
    (ring,) = re.findall(r"<circle[^>]*><title>(.*?)</title></circle>", lapse(TIMELINE))
    assert ring == "point 1: 50.0 ms after 0.700 s"
    assert lapse(TIMELINE).count('class="late"') == 1


def test_bands_are_the_load() -> None:
    (band,) = re.findall(r'<rect x="([\d.]+)%" width="([\d.]+)%"[^>]*class="band"', lapse(TIMELINE))
    assert float(band[0]) == pytest.approx(9 + 88 * 0.3 / END, abs=0.01)
    assert float(band[1]) == pytest.approx(88 * 0.3 / END, abs=0.01)
    until_the_end = replace(TIMELINE, turns=tuple(replace(turn, busy=1) for turn in TURNS))
    assert re.findall(r'<rect x="([\d.]+)%" width="([\d.]+)%"[^>]*class="band"', lapse(until_the_end)) == [
        ("9.000", "88.000")
    ]


def test_an_outlier_does_not_flatten_the_rest() -> None:
    turns = (*TURNS, Turn(0, 10_000.0, 33.0, True, at_s=1.0))
    drawn = lapse(replace(TIMELINE, turns=turns))
    rows = [float(y) for y in re.findall(r'cy="([\d.]+)" r="2.2"', drawn)]
    assert min(rows) == pytest.approx(30.0)  # the outlier, at the upper edge, three deadlines high
    assert max(rows) == pytest.approx(320 - 290 * 10 / 99, abs=0.1)


def test_ten_thousand_frames_are_small_and_complete() -> None:
    """Each slice of time has a line a point that spans its frames; stretches of the strip cover all of the axis."""
    drawn = lapse(long(10_000))
    assert len(drawn) < 400_000
    lines = re.findall(r'y1="([\d.]+)" x2="[\d.]+%" y2="([\d.]+)" class="lapse"', drawn)
    assert 420 <= len(lines) <= 3 * 420
    assert min(float(high) for _, high in lines) < 320 - 290 * 24 / 41.25 < max(float(low) for low, _ in lines)
    strip = re.findall(r'<rect x="([\d.]+)%" width="([\d.]+)%" y="[\d.]+" height="14"', drawn)
    ends = [float(x) + float(width) for x, width in strip]
    assert float(strip[0][0]) == pytest.approx(9)
    assert ends[-1] == pytest.approx(97, abs=0.01)
    assert [float(x) for x, _ in strip[1:]] == [pytest.approx(end, abs=0.01) for end in ends[:-1]]
    assert drawn.count('class="band"') == 2


def test_the_page(read_page) -> None:
    source = timeline_html(TIMELINE)
    text = read_page(source).text()
    for told in ("A deadline of 33 ms", "10.00 %", "1 of 10 frames", "65.00", "point 1: 50 % of the frames"):
        assert told in text
    assert "<x>" not in source
    assert not re.search(r"(src|href)=|url\(|<script", source)
    assert "Mean quality" not in timeline_html(replace(TIMELINE, quality=()))


def test_a_point_that_was_never_taken_has_a_row_of_its_own(read_page) -> None:
    three = replace(TIMELINE, points=("point 0", "point 1", "point 2"), quality=())
    row = re.search(r'<th scope="row">point 2</th>(.*?)</tr>', timeline_html(three))
    assert row is not None
    assert re.findall(r">([^<]*)</td>", row[1]) == ["0", "0.0 %", "–", "–", "–", "0"]


@pytest.mark.parametrize("timeline", [TIMELINE, long(3000), replace(TIMELINE, turns=TURNS[:1])])
def test_the_picture_alone_is_a_file_that_can_be_read(timeline: Timeline) -> None:
    document = xml.dom.minidom.parseString(timeline_svg(timeline))
    assert document.documentElement.getAttribute("xmlns") == "http://www.w3.org/2000/svg"
    assert "point 0" in timeline_svg(timeline)
