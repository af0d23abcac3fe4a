"""Block patterns against nested loops over single weights."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shoestring.core.errors import BadInput
from shoestring.core.pattern import BlockPattern, NMPattern, parse_pattern

Case = tuple[BlockPattern, np.ndarray, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Weights of linear layers and of 1-d and 2-d convolutions, grouped or not, that blocks mostly do not divide."""
    pattern = BlockPattern(draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    groups = draw(st.integers(1, 3))
    taps = draw(st.sampled_from([(), (1, 1), (3, 2), (3,)]))
    shape = (groups * draw(st.integers(1, 6)), draw(st.integers(1, 5)), *taps)
    return pattern, draw(arrays(np.float32, shape, elements=st.sampled_from([0, 0, 0, -1, 0.5, 3]))), groups


def block_of(case: Case, place: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(group, block row, block column, tap) of the weight at OIHW `place`."""
    pattern, weight, groups = case
    output, channel, *tap = place
    per_group = weight.shape[0] // groups
    flat = 0
    for index, size in zip(tap, weight.shape[2:], strict=True):
        flat = flat * size + index
    return output // per_group, output % per_group // pattern.outputs, channel // pattern.inputs, flat


def blocks(case: Case) -> dict[tuple[int, int, int, int], list[float]]:
    """The weights of every block, collected one by one."""
    found: dict[tuple[int, int, int, int], list[float]] = {}
    for place in np.ndindex(case[1].shape):
        found.setdefault(block_of(case, place), []).append(float(case[1][place]))
    return found


@given(cases())
def test_norms(case: Case) -> None:
    pattern, weight, groups = case
    norms, found = pattern.norms(weight, groups), blocks(case)
    assert norms.dtype == np.float64
    assert set(np.ndindex(norms.shape)) == set(found)
    for place, values in found.items():
        assert norms[place] == pytest.approx(math.sqrt(sum(value * value for value in values)), rel=1e-12)


@given(cases(), st.randoms(use_true_random=False))
def test_a_mask_of_blocks_becomes_a_mask_of_weights(case: Case, random: Any) -> None:
    pattern, weight, groups = case
    keep = np.zeros(pattern.norms(weight, groups).shape, bool)
    for place in np.ndindex(keep.shape):
        keep[place] = random.random() < 0.5
    mask = pattern.expand(keep, weight.shape, groups)
    assert (mask.shape, mask.dtype) == (weight.shape, bool)
    for place in np.ndindex(weight.shape):
        assert mask[place] == keep[block_of(case, place)]


@given(cases())
def test_sparsity_counts_the_weights_of_empty_blocks(case: Case) -> None:
    pattern, weight, groups = case
    gone = sum(len(values) for values in blocks(case).values() if not any(values))
    assert pattern.sparsity(weight, groups) == pytest.approx(gone / weight.size, rel=1e-12)


def test_a_picture_of_it() -> None:
    """4x2 on 6 outputs x 3 inputs: four blocks, three of them ragged."""
    weight = np.zeros((6, 3), np.float32)
    weight[5, 2] = 3
    weight[4, 2] = 4
    assert BlockPattern(4, 2).norms(weight)[0, :, :, 0].tolist() == [[0, 0], [0, 5]]
    assert BlockPattern(4, 2).sparsity(weight) == pytest.approx(16 / 18)
    assert BlockPattern(1, 1).sparsity(weight) == pytest.approx(16 / 18)
    assert BlockPattern(6, 3).sparsity(weight) == 0
    assert BlockPattern(99, 99).norms(weight).tolist() == [[[[5]]]]


def test_a_block_does_not_reach_into_the_next_group() -> None:
    weight = np.array([[1.0], [2], [3], [4], [5], [6]])
    assert BlockPattern(2, 1).norms(weight, 2).shape == (2, 2, 1, 1)
    assert BlockPattern(2, 1).norms(weight, 2)[:, 1, 0, 0].tolist() == [3, 6]


def test_integer_weights_do_not_overflow() -> None:
    assert BlockPattern(4, 1).norms(np.full((4, 1), -128, np.int8)).tolist() == [[[[256]]]]


def test_the_smallest_number_is_not_zero() -> None:
    weight = np.array([[5e-324, 0.0]])
    assert BlockPattern(1, 1).sparsity(weight) == 0.5


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_pattern_is_spelt_as_it_is_read(outputs: int, inputs: int) -> None:
    pattern = BlockPattern(outputs, inputs)
    assert str(pattern) == f"{outputs}x{inputs}"
    assert BlockPattern.parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text", ["", "4", "4x", "x4", "0x1", "4x0", "-4x1", "4x1x1", "4 x 1", "4X1", "4*1", "04x1", "a\nb"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^pattern: cannot read .*; write OUTPUTSxINPUTS, for example 4x1$") as caught:
        BlockPattern.parse(text)
    assert str(caught.value).isprintable()


def test_outputs_must_divide_into_groups() -> None:
    for measure in (BlockPattern(1, 1).norms, BlockPattern(1, 1).sparsity):
        with pytest.raises(BadInput, match=r"^pattern: 5 outputs do not divide into 2 groups$"):
            measure(np.zeros((5, 1)), 2)


@given(cases())
def test_sizes_are_what_blocks_really_hold(case: Case) -> None:
    pattern, weight, groups = case
    sizes = pattern.sizes(weight.shape, groups)
    assert {place: int(sizes[place]) for place in np.ndindex(sizes.shape)} == {
        k: len(v) for k, v in blocks(case).items()
    }


@given(cases())
def test_the_largest_pattern_that_a_group_holds(case: Case) -> None:
    pattern, weight, groups = case
    found = pattern.within(weight.shape, groups)
    held = weight.shape[0] // groups, weight.shape[1]
    assert found == BlockPattern(min(pattern.outputs, held[0]), min(pattern.inputs, held[1]))
    assert found.within(weight.shape, groups) == found


@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 99))
def test_n_of_m_against_one_group_at_a_time(kept: int, of: int, seed: int) -> None:
    kept = min(kept, of - 1)
    rng = np.random.default_rng(seed)
    weight = rng.integers(-4, 5, (3, int(rng.integers(1, 14)), 2)).astype(np.float32)
    mask = NMPattern(kept, of).keep(weight)
    assert (mask.dtype, mask.shape) == (bool, weight.shape)
    for output, tap in np.ndindex(3, 2):
        for start in range(0, weight.shape[1], of):
            values = np.abs(weight[output, start : start + of, tap])
            stays = mask[output, start : start + of, tap]
            assert stays.sum() == min(kept, len(values))
            assert values[stays].min(initial=9) >= values[~stays].max(initial=0)


def test_n_of_m_is_spelt_as_it_is_read() -> None:
    assert str(parse_pattern("2:4")) == "2:4"
    assert parse_pattern("2:4") == NMPattern(2, 4)
    assert parse_pattern("4x1") == BlockPattern(4, 1)
    assert NMPattern(1, 4).percent == 75
    assert NMPattern(2, 4).fits((8, 4, 3, 3))
    assert not NMPattern(2, 4).fits((8, 3))
    for text in ("4:2", "2:2", "0:4", "2:", ":4", "2:4:8", "-1:4"):
        with pytest.raises(BadInput, match="write KEPT:OF, for example 2:4"):
            parse_pattern(text)
