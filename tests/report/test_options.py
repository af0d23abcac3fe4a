"""The options of layers in a page: dots where their numbers are, and every option in a table."""

import re

import pytest

from shoestring.core.proposal import Considered, PlannedLayer
from shoestring.report.options import key, options

OPTIONS = (
    Considered("fp32", 0.4, 4000, 0.0),
    Considered("int8", 0.2, 1000, 0.0004, 0.0001),
    Considered("<b>&", 0.1, 500, 0.01),
)
LAYER = PlannedLayer("a<b", OPTIONS, "int8", "<b>&")


def dots(drawn: str) -> dict[str, tuple[float, float, str]]:
    """Place and class of the dots, by what they tell."""
    found = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)" r="[\d.]+" class="(\w+)"><title>([^<]*)</title>', drawn)
    return {told.split(":")[0]: (float(x), float(y), kind) for x, y, kind, told in found}


def test_dots_are_as_slow_and_as_wrong_as_their_options() -> None:
    """From zero: twice the milliseconds are twice as far; a 25th of the loss is a fifth as high."""
    found = dots(options([LAYER]))
    dense, pick, second = found["fp32"], found["int8"], found["&lt;b&gt;&amp;"]
    assert [kind for *_, kind in (dense, pick, second)] == ["original", "point", "hollow"]
    assert (dense[0] - 4) / (pick[0] - 4) == pytest.approx(2.0)
    assert (dense[0] - 4) / (second[0] - 4) == pytest.approx(4.0)
    assert (dense[1] - pick[1]) / (dense[1] - second[1]) == pytest.approx(0.2, abs=0.01)


def test_the_pick_is_drawn_last() -> None:
    assert re.findall(r'class="(\w+)"><title>', options([LAYER])) == ["original", "hollow", "point"]


def test_every_option_is_in_the_table_fastest_first() -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", options([LAYER]))[1:]
    assert [re.findall(r">([^<>]+)<", row) for row in rows] == [
        ["&lt;b&gt;&amp;", "0.100", "500 B", "10.0 %", "next best"],
        ["int8", "0.200", "1.00 kB", "2.00 ± 0.25 %", "taken"],
        ["fp32", "0.400", "4.00 kB", "0 %"],
    ]


def test_the_line_of_a_layer_tells_the_pick_and_the_next_best(read_page) -> None:
    page = read_page(options([LAYER]))
    line = page.text("summary").split()
    assert " ".join(line).endswith("int8 0.200 ms 1.00 kB 2.00 ± 0.25 % <b>& 0.100 ms 500 B 10.0 %")
    assert page.find("code", title="a<b")
    assert len(page.find("details")) == 1


def test_layers_with_nothing_to_compare(read_page) -> None:
    zero = PlannedLayer("add", (Considered("fp32", 0.0, 0, 0.0),), "fp32")
    assert dots(options([zero])) == {"fp32": (4.0, 36.0, "point")}
    read_page(options([]))


def test_the_key_names_each_kind_of_dot(read_page) -> None:
    page = read_page(key())
    assert [found["class"] for found in page.find("circle")] == ["point", "hollow", "original"]
    assert page.text("span").split("  ") == ["taken next best considered"]
