"""The plane: what is put where, what its axes say, and names that touch nothing."""

import re

from shoestring.report.plane import LETTER, Plane, box, dot, labels


def test_proportions_are_kept_within_the_frame() -> None:
    plane = Plane([1.0, 3.0], [50.0, 100.0])
    (left, bottom), (middle, centre), (right, top) = (plane.at(x, y) for x, y in ((1, 50), (2, 75), (3, 100)))
    assert round(middle - left, 6) == round(right - middle, 6) > 0
    assert round(bottom - centre, 6) == round(centre - top, 6) > 0
    assert 9 <= left < right <= 97
    assert 30 <= top < bottom <= 320


def test_the_numbers_of_the_axes_are_round_and_in_their_places() -> None:
    plane = Plane([0.0, 2.0], [60.0, 80.0])
    texts = re.findall(r'<text x="([\d.]+)%" y="([\d.]+)"[^>]*>([^<]*)</text>', "".join(plane.grid("ms", "top-1")))
    across = {text: float(x) for x, y, text in texts if y == "340"}
    assert list(across) == ["0", "0.5", "1", "1.5", "2"]
    assert abs(across["1"] - plane.at(1.0, 70.0)[0]) < 1e-3
    up = {text: float(y) - 5 for x, y, text in texts if x == "8.000" and y != "340"}
    assert {"60", "70", "80"} <= up.keys()
    assert abs(up["70"] - plane.at(1.0, 70.0)[1]) < 1e-3
    assert {"ms", "top-1"} <= {text for *_, text in texts}


def test_one_value_makes_an_axis() -> None:
    assert Plane([2.0], [7.0]).at(2.0, 7.0) == ((9 + 97) / 2, (30 + 320) / 2)


def test_a_level_is_as_high_as_its_value() -> None:
    plane = Plane([0.0, 2.0], [60.0, 80.0])
    (drawn, name) = plane.level(65.0, "a<b")
    assert f'y1="{plane.at(0, 65.0)[1]:g}"' in drawn
    assert "a&lt;b" in name


def test_a_dot_tells_what_it_is() -> None:
    drawn = dot((50.0, 100.0), "<b>&", "hollow")
    assert "<title>&lt;b&gt;&amp;</title>" in drawn
    assert 'class="hollow"' in drawn


def test_words_touch_nothing_that_is_taken_nor_each_other() -> None:
    places = [(50.0, 150.0), (54.0, 152.0), (58.0, 148.0), (52.0, 160.0)]
    texts = ["1", "fp32 as it was", "3", "4"]
    taken = [box(place) for place in places]
    drawn, covered = labels(texts, places, taken)
    assert covered[: len(taken)] == taken
    assert len(covered) == len(taken) + len(drawn)
    assert len(drawn) >= 3
    for index, (x, y, half, tall) in enumerate(covered[len(taken) :], start=len(taken)):
        for other in covered[:index]:
            assert abs(x - other[0]) >= half + other[2] or abs(y - other[1]) >= tall + other[3]


def test_a_word_without_a_place_is_left_out() -> None:
    everything = box((50.0, 150.0), 1000.0, 1000.0)
    assert labels(["1"], [(50.0, 150.0)], [everything]) == ([], [everything])


def test_words_stay_inside_the_picture_on_a_phone() -> None:
    """A long name at the right edge stands on the left of its dot."""
    place = (96.0, 31.0)
    drawn, covered = labels(["another file"], [place], [box(place)])
    (x, _, half, tall) = covered[1]
    assert len(drawn) == 1
    assert x + half <= 340 + LETTER
    assert tall == LETTER
