"""Which blocks go, against loops over single blocks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.compress.magnitude.masks import masks
from shoestring.compress.method import Weight
from shoestring.core.pattern import BlockPattern


@st.composite
def weights(draw: st.DrawFn) -> list[Weight]:
    """One to three weights of linear layers and convolutions, grouped or not; in small integers, so norms repeat."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.integers(1, 2))
        shape = (
            groups * draw(st.integers(1, 7)),
            draw(st.integers(1, 6)),
            *draw(st.sampled_from([(), (1, 1), (2, 3)])),
        )
        found.append(Weight(rng.integers(-3, 4, shape).astype(np.float32), groups))
    return found


def blocks(weight: Weight, pattern: BlockPattern) -> list[list[tuple[int, ...]]]:
    """The places of each block's weights, in the order of groups, outputs, inputs, taps."""
    per_group = len(weight.values) // weight.groups
    found: dict[Any, list[tuple[int, ...]]] = {}
    for place in np.ndindex(weight.values.shape):
        group, output = divmod(place[0], per_group)
        key = (group, output // pattern.outputs, place[1] // pattern.inputs, place[2:])
        found.setdefault(key, []).append(place)
    return [found[key] for key in sorted(found)]


def by_hand(given: list[Weight], pattern: BlockPattern, percent: float, most: float) -> list[np.ndarray]:
    """Blocks one by one, the smallest first, as long as the share of the layer and of all allow it."""
    places = [(index, block) for index, weight in enumerate(given) for block in blocks(weight, pattern)]
    norms = [sum(float(given[index].values[place]) ** 2 for place in block) for index, block in places]
    kept = [np.ones(weight.values.shape, bool) for weight in given]
    of_layer, gone, full = [0] * len(given), 0, set()
    for _, (index, block) in sorted(zip(norms, places, strict=True), key=lambda pair: pair[0]):
        if index in full or of_layer[index] + len(block) > most * given[index].values.size / 100:
            full.add(index)
            continue
        if gone + len(block) > percent * sum(weight.values.size for weight in given) / 100:
            break
        gone, of_layer[index] = gone + len(block), of_layer[index] + len(block)
        for place in block:
            kept[index][place] = False
    return kept


@given(weights(), st.integers(1, 5), st.integers(1, 3), st.sampled_from([10, 33.3, 50, 80]), st.sampled_from([60, 100]))
def test_against_one_block_at_a_time(
    given: list[Weight], outputs: int, inputs: int, percent: float, most: float
) -> None:
    pattern = BlockPattern(outputs, inputs)
    found = masks(given, pattern, percent, most)
    for mask, wanted in zip(found, by_hand(given, pattern, percent, most), strict=True):
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, wanted)
        assert (~mask).mean() <= most / 100


def test_the_share_is_exact_where_blocks_divide_it() -> None:
    weight = Weight(np.random.default_rng(0).standard_normal((40, 25, 1, 1)).astype(np.float32))
    for percent in range(1, 100):
        (mask,) = masks([weight], BlockPattern(1, 1), percent)
        assert (~mask).sum() == 10 * percent
        (mask,) = masks([weight], BlockPattern(4, 1), percent)
        assert (~mask).sum() == 10 * percent // 4 * 4


def test_of_equal_blocks_the_first_goes() -> None:
    (mask,) = masks([Weight(np.ones((8, 4), np.float32))], BlockPattern(4, 1), 50)
    assert not mask[:4].any()
    assert mask[4:].all()


def test_one_threshold_takes_from_the_layer_that_has_least() -> None:
    small, large = Weight(np.full((4, 10), 0.1, np.float32)), Weight(np.ones((4, 10), np.float32))
    first, second = masks([small, large], BlockPattern(4, 1), 50)
    assert (first.any(), second.all()) == (False, True)
    first, second = masks([small, large], BlockPattern(4, 1), 50, most=80)  # the rest comes from the other
    assert (first.mean(), second.mean()) == pytest.approx((0.2, 0.8))
