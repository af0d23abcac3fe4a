"""The trail in a terminal and as a page: every figure is there, and every dot where it belongs."""

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
    assert ["2", "50", "%", "80.0", "%", "60.0", "%", "0.250", "90.00", "10.00"] in lines
    assert "--method ltp --from x.trail/point-03.safetensors" in " ".join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines())
    assert " ms " not in printed(replace(TRAIL, points=tuple(replace(point, ms=None) for point in POINTS)))


def test_a_measure_that_is_better_when_lower() -> None:
    lower = replace(TRAIL, higher_is_better=False, original=50.0)
    assert ["2", "50", "%", "80.0", "%", "60.0", "%", "0.250", "90.00", "40.00"] in [
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


def places(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)"', picture)]


def test_dots_lie_where_their_numbers_are() -> None:
    """More zeros further right, more quality further up, equal zeros above one another; within the frame."""
    found = places(str(curve("k", "quality", "zeros", [(30, 99), (80, 90), (80, 95.5)], TRAIL)))
    assert found[0][0] < found[1][0] == found[2][0]
    assert found[0][1] < found[2][1] < found[1][1]
    assert (found[1][1] - found[2][1]) / (found[2][1] - found[0][1]) == pytest.approx(5.5 / 3.5, rel=1e-2)
    assert all(9 <= x <= 97 and 30 <= y <= 320 for x, y in found)


def test_one_point_has_a_picture_too() -> None:
    assert len(places(str(curve("k", "quality", "zeros", [(30, 100)], replace(TRAIL, points=POINTS[:1]))))) == 1


def test_cells_are_as_dark_as_their_share() -> None:
    found = re.findall(r'class="subject" fill-opacity="([\d.]+)"', str(heat("k", TRAIL)))
    assert [float(share) for share in found] == [0.3, 0.8, 0.8, 0.1, 0.2, 0.25]
    assert ">25 %<" in str(heat("k", TRAIL))
