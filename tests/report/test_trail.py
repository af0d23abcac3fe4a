"""The trail in a terminal and as a page: every figure is there, and every dot where it belongs."""

import math
import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from shoestring.core.trail import Trail, TrailPoint
from shoestring.report.trail import curve, heat, print_trail, trail_html

POINTS = (
    TrailPoint(1, 0.1, 0.3, 0.2, 99.0, "point-01.safetensors", 0.5),
    TrailPoint(2, 0.5, 0.8, 0.6, 90.0, "point-02.safetensors", 0.25),
    TrailPoint(3, 1.0, 0.8, 0.6, 95.5, "point-03.safetensors", 0.25),
)
TRAIL = Trail(
    "ltp:1x1@80%", "probability kept", "pt", True, 100.0, 64, POINTS, {"conv": (0.3, 0.8, 0.8), "a<b": (0.1, 0.2, 0.25)}
)


def printed(trail: Trail, width: int = 80) -> str:
    console = Console(width=width, no_color=True, record=True, file=StringIO())
    print_trail(trail, console, "x.trail")
    return console.export_text()


def test_a_line_for_each_point() -> None:
    text = printed(TRAIL)
    lines = [line.split() for line in text.splitlines()]
    assert ["2", "80.0", "%", "0.250", "90.00", "10.00", "60.0", "%", "50", "%"] in lines
    assert "--method ltp:1x1@80% --from x.trail/point-03.safetensors" in " ".join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines())
    assert " ms " not in printed(replace(TRAIL, points=tuple(replace(point, ms=None) for point in POINTS)))


def test_80_columns_are_enough_for_all_there_may_be() -> None:
    wide = tuple(replace(point, ms=1234.5, band=1.0, progress=1.0) for point in POINTS)
    text = printed(replace(TRAIL, points=wide, metric="a metric with a long name", method="magnitude:" + "x" * 200))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"^point .* near +run$", text, re.MULTILINE)
    assert "1,234" in text


def test_the_command_to_go_on_is_one_for_a_shell() -> None:
    named = printed(replace(TRAIL, method="magnitude:4x1@80%:global:head.*=dense"), width=300)
    assert "--method 'magnitude:4x1@80%:global:head.*=dense' --from x.trail/point-03.safetensors" in named


def test_a_measure_that_is_better_when_lower() -> None:
    lower = replace(TRAIL, higher_is_better=False, original=50.0)
    assert ["2", "80.0", "%", "0.250", "90.00", "40.00", "60.0", "%", "50", "%"] in [
        line.split() for line in printed(lower).splitlines()
    ]


def test_the_page() -> None:
    page = trail_html(TRAIL, "x.trail")
    assert page.count("<circle") == 2 * len(POINTS)
    assert "a&lt;b" in page
    assert "a<b" not in page
    for cell in ("30.0 %", "0.250", "95.50", "point-03.safetensors"):
        assert cell in page
    assert trail_html(replace(TRAIL, points=tuple(replace(p, ms=None) for p in POINTS))).count("<circle") == len(POINTS)


def test_headings_of_the_page_are_aligned_like_their_cells(read_page) -> None:
    """And what counts stands before the rest, where a phone shows it."""
    kinds = re.findall(r'<th scope="col"( class="number")?>([^<]*)</th>', trail_html(TRAIL))
    names = ["Point", "Zeros", "ms", "Probability kept", "Lost", "Multiplications", "Run"]
    assert [name for _, name in kinds] == names
    assert [bool(kind) for kind, _ in kinds] == [False, *[True] * 6]
    read_page(trail_html(TRAIL))  # well-formed


def places(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)"', picture)]


def by_zeros(trail: Trail) -> str:
    return str(curve("k", "quality", "% zeros", lambda point: 100 * point.zeros, trail))


def numbers(picture: str) -> list[tuple[str, float, float]]:
    """The numbers beside the dots: which, pixels across on a phone, pixels down."""
    found = re.findall(r'<text x="([\d.]+)%" y="([\d.]+)" dx="(-?\d+)"[^>]*>(\d+)</text>', picture)
    return [(text, float(x) * 3.4 + float(dx), float(y) - 5) for x, y, dx, text in found]


def test_dots_lie_where_their_numbers_are() -> None:
    """More zeros further right, more quality further up, equal zeros above one another; within the frame."""
    found = places(by_zeros(TRAIL))
    assert found[0][0] < found[1][0] == found[2][0]
    assert found[0][1] < found[2][1] < found[1][1]
    assert (found[1][1] - found[2][1]) / (found[2][1] - found[0][1]) == pytest.approx(5.5 / 3.5, rel=1e-2)
    assert all(9 <= x <= 97 and 30 <= y <= 320 for x, y in found)


def test_points_keep_their_numbers_where_others_have_no_time() -> None:
    some = replace(TRAIL, points=(replace(POINTS[0], ms=None), *POINTS[1:]))
    picture = str(curve("k", "quality", "ms", lambda point: point.ms, some))
    assert re.findall(r"<title>(point \d): 0.250 ms, ([\d.]+) pt", picture) == [
        ("point 2", "90.0"),
        ("point 3", "95.5"),
    ]
    assert sorted(text for text, *_ in numbers(picture)) == ["2", "3"]


def test_numbers_touch_nothing_and_the_last_has_one() -> None:
    """At the end of a run its points crowd."""
    crowd = tuple(replace(POINTS[2], number=n, zeros=0.8 + 0.0001 * n, quality=95 + 0.01 * n) for n in range(1, 20))
    picture = by_zeros(replace(TRAIL, points=(replace(POINTS[0], number=0), *crowd), layers={}))
    found = numbers(picture)
    assert {"0", "19"} <= {text for text, *_ in found}
    assert len(found) < 20
    middles = [(x, y, 8.0) for _, x, y in found]
    circles = [*middles, *((x * 3.4, y, 6.0) for x, y in places(picture))]
    for one in middles:
        others = [circle for circle in circles if circle is not one]
        assert min(math.dist(one[:2], circle[:2]) - one[2] - circle[2] for circle in others) > -0.1


def test_one_point_has_a_picture_too() -> None:
    assert len(places(by_zeros(replace(TRAIL, points=POINTS[:1], layers={})))) == 1


def test_cells_are_as_dark_as_their_share() -> None:
    found = re.findall(r'class="subject" fill-opacity="([\d.]+)"', str(heat(TRAIL)))
    assert [float(share) for share in found] == [0.3, 0.8, 0.8, 0.1, 0.2, 0.25]
    assert ">25 %<" in str(heat(TRAIL))
    assert "conv, point 2: 80.0 % zeros" in str(heat(TRAIL))
