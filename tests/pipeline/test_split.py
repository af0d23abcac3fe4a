from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.image.dataset import ArrayImage
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.pipeline.split import shuffled, split

PIXELS = np.zeros((1, 1, 1), np.uint8)


def made(targets, groups=None):
    """A data set of these targets; every item is its own group unless said otherwise."""
    groups = range(len(targets)) if groups is None else groups
    items = (Item(ArrayImage(PIXELS, 0), target, str(group)) for target, group in zip(targets, groups, strict=True))
    return Dataset(tuple(items))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2), st.integers(1, 30), st.integers(0, 9))
def test_no_photograph_is_on_both_sides(pairs, calibration, seed):
    dataset = made(*zip(*pairs, strict=True))
    sizes = Counter(dataset.group)
    try:
        first, second = split(dataset, calibration, seed)
    except BadInput:
        # only when leaving out some group, any of them, can make it impossible to reach the number
        assert len(dataset) - max(sizes.values()) < calibration
        return
    assert len(first) == calibration
    assert len(second) > 0
    assert not set(first.group) & set(second.group)
    unused = len(dataset) - len(first) - len(second)
    assert unused < max(sizes.values())
    assert set(first.items) | set(second.items) <= set(dataset.items)


def test_every_class_gives_its_share():
    targets = [0] * 400 + [1] * 200 + [2] * 100
    for seed in range(5):
        share = Counter(split(made(targets), 70, seed)[0].targets)
        assert abs(share[0] - 40) <= 1
        assert abs(share[1] - 20) <= 1
        assert abs(share[2] - 10) <= 1


def test_one_image_per_class_is_drawn_evenly():
    """500 classes of one image: no class may be preferred for its place in the list."""
    drawn = np.zeros(50)
    for seed in range(400):
        first, _ = split(made(list(range(50))), 10, seed)
        drawn[list(first.targets)] += 1
    # binomial(400, 0.2): mean 80, deviation 8; five deviations
    assert (np.abs(drawn - 80) < 40).all()


def test_it_is_reproducible_and_follows_the_seed():
    dataset = made([None] * 100)
    one, again, other = split(dataset, 20, 1), split(dataset, 20, 1), split(dataset, 20, 2)
    assert one[0].group == again[0].group
    assert one[1].group == again[1].group
    assert one[0].group != other[0].group


def test_judgement_keeps_the_order_of_the_data():
    _, judged = split(made([None] * 100), 20, 3)
    places = [int(group) for group in judged.group]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("groups", "calibration"), [(range(10), 10), (range(10), 11), ([0] * 10, 3), ([0] * 5 + [1] * 5, 6)]
)
def test_too_few_is_an_error(groups, calibration):
    with pytest.raises(BadInput, match="give more"):
        split(made([None] * 10, groups), calibration)


def test_no_calibration_is_an_error():
    with pytest.raises(BadInput, match="at least 1"):
        split(made([None] * 10), 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2), st.integers(0, 9))
def test_fewer_are_the_first_of_more(pairs, seed):
    """So what calibrates is among what trains."""
    dataset = made(*zip(*pairs, strict=True))
    order = shuffled(dataset, seed)
    assert sorted(map(dataset.items.index, order.items)) == list(range(len(dataset)))
    for count in range(1, len(dataset)):
        try:
            first, _ = split(dataset, count, seed)
        except BadInput:
            continue
        assert first.items == order.items[:count]
