"""The roofline: the geometry read back from the SVG is the data."""

import math
from dataclasses import replace

import pytest

from shoestring.core.profile import Operator, Profile
from shoestring.report.roofline import LEAST, drawn, roofline


def value(attribute: str) -> float:
    return float(attribute.rstrip("%"))


def roofs(page) -> tuple[list[float], list[float]]:
    slope, flat = page.find("line", class_="roof")
    return tuple([value(line[name]) for name in ("x1", "y1", "x2", "y2")] for line in (slope, flat))


def test_one_dot_an_operator_that_multiplies(profile: Profile, read_page) -> None:
    page = read_page(roofline("k", profile))
    multiplying = [item for item in profile.operators if item.executed and profile.share(item) >= LEAST]
    assert [item for _, item in drawn(profile)] == multiplying
    kinds = [circle["class"] for circle in page.find("circle")]
    assert kinds == [f"dot {profile.bound(item)}" for item in multiplying]


def test_dots_stand_where_their_numbers_are(profile: Profile, read_page) -> None:
    """Positions are linear in the logarithms: a dot and the corner of the roofs give the scale, the others follow."""
    page, items = read_page(roofline("k", profile)), [item for _, item in drawn(profile)]
    (_, _, corner_x, corner_y), _ = roofs(page)
    ridge = profile.roof.gmacs / profile.roof.gigabytes
    dots = [(value(circle["cx"]), value(circle["cy"])) for circle in page.find("circle")]
    across = (dots[0][0] - corner_x) / math.log(items[0].intensity / ridge)
    up = (dots[0][1] - corner_y) / math.log(items[0].gmacs / profile.roof.gmacs)
    for (x, y), item in zip(dots, items, strict=True):
        assert x == pytest.approx(corner_x + across * math.log(item.intensity / ridge), abs=0.05)
        assert y == pytest.approx(corner_y + up * math.log(item.gmacs / profile.roof.gmacs), abs=0.5)
        assert 0 < x < 100
    slope = roofs(page)[0]
    assert (slope[3] - slope[1]) / (slope[2] - slope[0]) == pytest.approx(up / across, rel=1e-2)  # y grows with x


def test_the_area_of_a_dot_is_its_time(profile: Profile, read_page) -> None:
    radii = [value(circle["r"]) - 3 for circle in read_page(roofline("k", profile)).find("circle")]
    areas = [profile.share(item) for _, item in drawn(profile)]
    assert [radius**2 / radii[0] ** 2 for radius in radii] == pytest.approx(
        [area / areas[0] for area in areas], abs=0.05
    )


def test_the_roofs_meet_and_the_flat_one_goes_on(profile: Profile, read_page) -> None:
    slope, flat = roofs(read_page(roofline("k", profile)))
    assert slope[2:] == flat[:2]
    assert flat[1] == flat[3] < slope[1]
    assert slope[0] < slope[2] < flat[2]


def test_numbers_do_not_touch(profile: Profile, read_page) -> None:
    """On a picture of 340 pixels, even where all dots are in one place."""
    same = tuple(replace(profile.operators[0], node=f"n{index}") for index in range(30))
    for report in (profile, replace(profile, operators=same)):
        page = read_page(roofline("k", report))
        ranks = [(3.4 * value(text["x"]), value(text["y"])) for text in page.find("text", class_="strong")][1:]
        assert 0 < len(ranks) <= 9
        apart = [math.dist(one, other) for index, one in enumerate(ranks) for other in ranks[:index]]
        assert min(apart, default=99) >= 16


def test_a_slope_that_is_cut_off_begins_inside(profile: Profile, read_page) -> None:
    """Operators of few multiply-adds a byte reach far to the left, where the slope is below the picture."""
    few = Operator("few", "depthwise 3x3", 1.0, 4_000_000_0, 0, 40_000_000_000)
    page = read_page(roofline("k", replace(profile, operators=(few, *profile.operators))))
    slope, _ = roofs(page)
    assert slope[0] > value(page.find("circle")[0]["cx"])
    assert slope[1] <= 380


def test_the_picture_tells_what_it_shows(profile: Profile, read_page) -> None:
    page = read_page(roofline("k", profile))
    assert "80.0 GMAC/s" in page.text("desc")
    assert "1 features.0.0, 0.800 ms, 2.71 GMAC/s" in page.text("desc")
    assert "features.0.0: conv 3x3 4x1" in page.text("title")
