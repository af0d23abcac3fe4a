"""The picture of means with intervals."""

import math

from shoestring.report.intervals import Mean, intervals

ROWS = [Mean("network", 80.0, 70.0, 90.0, "80.00 %"), Mean("forest", 60.0, 50.0, 70.0, "60.00 %", plain=True)]


def test_a_dot_and_a_bar_a_row_on_one_scale(read_page) -> None:
    page = read_page(intervals("k", "accuracy", ROWS))
    first, second = page.find("circle")
    assert (first["class"], second["class"]) == ("point", "hollow")
    bars = [rect for rect in page.find("rect") if rect["class"] in ("interval", "band")]
    at = [float(bar["x"].rstrip("%")) for bar in bars]
    wide = [float(bar["width"].rstrip("%")) for bar in bars]
    assert math.isclose(wide[0], wide[1], abs_tol=0.01)
    assert math.isclose(at[0] - at[1], wide[0], abs_tol=0.01)  # 70 - 50 is as wide as each
    assert math.isclose(float(first["cx"].rstrip("%")), at[0] + wide[0] / 2, abs_tol=0.01)


def test_who_cannot_see_it_is_told(read_page) -> None:
    told = read_page(intervals("k", "accuracy", ROWS)).text("desc")
    assert "network: 80.00 %, 70.00 to 90.00" in told


def test_one_row_without_a_width_has_a_place(read_page) -> None:
    page = read_page(intervals("k", "accuracy", [Mean("only", 5.0, 5.0, 5.0, "5")]))
    (dot,) = page.find("circle")
    assert 40 < float(dot["cx"].rstrip("%")) < 60
