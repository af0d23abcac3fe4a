"""The picture of a front: dots, whiskers and squares where their numbers are."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from shoestring.core.front import Front
from shoestring.report.frontier import frontier, judged


def dots(picture: str) -> list[tuple[float, float, str]]:
    found = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)" r="6.0" class="(\w+)"', picture)
    return [(float(x), float(y), kind) for x, y, kind in found]


def lines(picture: str, kind: str) -> list[tuple[float, ...]]:
    at = r'"([-\d.]+)%?"'
    found = re.findall(f'<line x1={at} y1={at} x2={at} y2={at} class="{kind}"', picture)
    return [tuple(map(float, ends)) for ends in found]


def words(picture: str, kind: str) -> list[str]:
    """Names beside dots and squares."""
    return re.findall(rf'dx="[-\d.]+" text-anchor="middle" class="{kind}">([^<]*)<', picture)


def test_points_are_numbered_as_they_come(front: Front) -> None:
    some = replace(front, points=(replace(front.points[0], quality=None), *front.points[1:]))
    assert [(rank, quality) for rank, _, quality in judged(some)] == [(2, 72.43), (3, 72.13), (4, 74.23), (5, 74.63)]


def test_dots_lie_where_their_numbers_are(front: Front) -> None:
    first, second, third, fourth, fifth = dots(frontier("k", front))
    assert (third[0] - first[0]) / (fifth[0] - first[0]) == pytest.approx(0.55 / 1.73, abs=1e-3)
    assert (first[1] - second[1]) / (first[1] - fifth[1]) == pytest.approx(4.3 / 6.5, abs=1e-2)
    assert fourth[0] < fifth[0]


def test_a_dominated_point_is_hollow_and_not_on_the_line(front: Front) -> None:
    picture = frontier("k", front)
    places = dots(picture)
    assert [kind for *_, kind in places] == ["point", "point", "hollow", "point", "point"]
    joined = [place[:2] for index, place in enumerate(places) if index != 2]
    ends = [(*start, *end) for start, end in pairwise(joined)]
    assert [found for line in lines(picture, "roof") for found in line] == pytest.approx(sum(ends, ()), abs=0.06)


def test_whiskers_are_the_interval_about_the_quality(front: Front) -> None:
    picture = frontier("k", front)
    places = dots(picture)
    per_point = (places[0][1] - places[4][1]) / 6.5
    stems = [ends for ends in lines(picture, "whisker") if ends[0] == ends[2]]
    assert len(stems) == 5
    for (x1, bottom, _, top), (x, y, _), point in zip(stems, places, front.points, strict=True):
        assert x1 == pytest.approx(x)
        assert (bottom - y) / per_point == pytest.approx(point.difference - point.low, abs=0.05)
        assert (y - top) / per_point == pytest.approx(point.high - point.difference, abs=0.05)


def test_the_best_baselines_are_squares_and_the_original_is_a_line(front: Front) -> None:
    picture = frontier("k", front)
    squares = re.findall(r'<rect x="([\d.]+)%" y="([\d.]+)"[^>]*class="original"><title>([^<]*)<', picture)
    told = [text for *_, text in squares]
    assert told == [
        "fp32 on openvino: 5.61 ms, 74.83 pt",
        "bf16 on openvino: 4.44 ms, 74.79 pt",
        "int8 on openvino: 2.51 ms, 74.06 pt",
    ]
    ((_, level, _, _),) = lines(picture, "join")
    assert float(squares[0][1]) == pytest.approx(level, abs=0.1)  # the original is the baseline in fp32
    assert words(picture, "strong") == ["1", "2", "3", "4", "5"]
    assert words(picture, "quiet") == ["fp32", "bf16", "int8"]


def test_without_intervals_baselines_or_differences(front: Front, read_page) -> None:
    points = tuple(replace(point, difference=None, low=None, high=None) for point in front.points)
    picture = frontier("k", replace(front, points=points, baselines=()))
    read_page(picture)
    assert len(dots(picture)) == 5
    assert lines(picture, "whisker") == lines(picture, "join") == []


def test_one_point_has_a_picture_too(front: Front) -> None:
    assert len(dots(frontier("k", replace(front, points=front.points[1:2], baselines=())))) == 1


def test_it_tells_what_it_shows(front: Front, read_page) -> None:
    page = read_page(frontier("k", front))
    assert "point 2: 0.870 ms, 72.43 pt" in page.text("desc")
    assert "top-1, pt against milliseconds" in page.text("title")
