"""The elastic space: what is written, what is in it, what is open when."""

import numpy as np
import pytest

from shoestring.compress.slim.space import Shape, Space, parse
from shoestring.core.errors import BadInput


def test_words_in_any_order_and_back() -> None:
    space = parse("d=2:w=0.25..0.6:r=0.5")
    assert space == Space((1.0, 0.6, 0.5, 0.35, 0.25), (0, 1, 2), (0, 1), (1.0, 0.5))
    assert parse(str(space).partition(":")[2]) == space
    assert parse("w=0.3,0.7") == Space((1.0, 0.7, 0.3))
    assert parse("w=1:d=0:k=0:r=1") == Space((1.0,), (0,), (0,), (1.0,))
    assert parse("k=0,2").kernel == (0, 2)
    assert parse("n=0.5,0.25").near == (1.0, 0.5, 0.25)
    assert str(Space((1.0,), (0,), (0,), (1.0,), (1.0, 0.5))) == "slim:w=1:d=0:k=0:r=1:n=1,0.5"
    assert str(Space((1.0,), (0,), (0,), (1.0,), (1.0,))) == "slim:w=1:d=0:k=0:r=1"  # most know no neighbours


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("w", "cannot read 'w'"),
        ("x=1", "cannot read 'x=1'"),
        ("w=0", "shares above 0 up to 1"),
        ("w=2", "shares above 0 up to 1"),
        ("w=wide", "shares above 0 up to 1"),
        ("n=0", "n=0: give shares above 0 up to 1"),
        ("r=nan", "shares above 0 up to 1"),
        ("d=-1", "a whole number from 0 to 31"),
        ("d=1000", "a whole number from 0 to 31"),
        ("k=0.5", "a whole number from 0 to 31"),
        ("d=1:d=2", "says d= twice"),
    ],
)
def test_what_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=f"^slim: .*{said}"):
        parse(text)


def test_all_of_it_the_largest_first() -> None:
    space = Space((1.0, 0.5), (0, 1), (0,), (1.0, 0.75), (1.0,))
    shapes = list(space)
    assert len(shapes) == len(set(shapes)) == 8
    assert (shapes[0], shapes[-1]) == (space.largest, space.smallest) == (Shape(), Shape(0.5, 1, 0, 0.75))
    assert space.smallest_of_full_inputs == Shape(0.5, 1)
    assert str(Shape(0.5, side=0.5, near=0.25)) == "w=0.5:n=0.25:r=0.5"
    assert [str(shape) for shape in (shapes[0], shapes[-1], Shape(kernel=2))] == ["w=1", "w=0.5:d=1:r=0.75", "w=1:k=2"]


def test_every_shape_is_drawn() -> None:
    space, rng = Space((1.0, 0.5), (0, 1), (0,), (1.0, 0.75), (1.0, 0.5)), np.random.default_rng(0)
    assert {space.drawn(lambda n: int(rng.integers(n))) for _ in range(200)} == set(space)


def test_it_opens_little_by_little_and_never_closes() -> None:
    space = parse("w=0.25..1:d=3")
    begun = space.opened(0.0)
    assert begun.axes == ((1.0,), (0,), space.kernel, space.side, space.near)
    assert space.opened(1.0) == space
    sizes = [len(list(space.opened(progress))) for progress in np.linspace(0, 1, 101)]
    assert sizes == sorted(sizes)
    assert space.opened(0.1).depth == space.depth  # depths before widths
    assert space.opened(0.1).width == (1.0,)
