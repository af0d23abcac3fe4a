"""Second-order pruning, against all supports there are, and against closed forms."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shoestring.compress.reconstruct.pruning import ways
from shoestring.compress.reconstruct.quadratic import refit
from shoestring.compress.reconstruct.rounding import errors
from shoestring.core.pattern import BlockPattern, NMPattern


def case(seed: int, outputs: int, width: int, groups: int = 1) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(groups, width, 3 * width))
    hessian = mixed @ mixed.swapaxes(1, 2) / width + 0.1 * np.eye(width)
    return torch.from_numpy(hessian), torch.from_numpy(rng.normal(size=(groups, outputs, width)))


def error(hessian: Tensor, target: Tensor, keep: Tensor) -> float:
    """With the best weight that is zero where it is not kept."""
    return float(errors(hessian, target, refit(hessian, target, keep)).sum())


def blocks_of(outputs: int, inputs: int, taps: int, pattern: BlockPattern) -> list[Tensor]:
    """Each block as a mask [1, outputs, inputs * taps], by hand."""
    found = []
    for row in range(0, outputs, pattern.outputs):
        for column in range(0, inputs, pattern.inputs):
            for tap in range(taps):
                mask = torch.zeros(1, outputs, inputs, taps, dtype=torch.bool)
                mask[:, row : row + pattern.outputs, column : column + pattern.inputs, tap] = True
                found.append(mask.reshape(1, outputs, -1))
    return found


PATTERNS = ["1x1", "4x1", "2x2", "4x4", "3x2"]


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from(PATTERNS), st.sampled_from([(4, 6, 1), (8, 4, 1), (5, 3, 2), (4, 5, 1)]))
def test_the_first_block_is_the_one_that_brute_force_removes(seed: int, text: str, size: tuple[int, int, int]) -> None:
    outputs, inputs, taps = size
    pattern = BlockPattern(*map(int, text.split("x")))
    hessian, target = case(seed, outputs, inputs * taps)
    every = blocks_of(outputs, inputs, taps, pattern)
    whole = [mask for mask in every if int(mask.sum()) == max(int(mask.sum()) for mask in every)]
    found = ways(hessian, target, taps, pattern)
    keep = found.keep(int(whole[0].sum()))
    least = min(error(hessian, target, ~mask) for mask in every)
    assert error(hessian, target, keep) <= least * (1 + 1e-4) or int((~keep).sum()) > int(every[-1].sum())


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 5))
def test_greedy_comes_close_to_all_supports(seed: int, gone: int) -> None:
    """One row of six weights: every support of `gone` zeros is tried. Greedy steps with exact updates need not find the
    best, and never do worse than the smallest weights."""
    hessian, target = case(seed, 1, 6)
    supports = [torch.ones(1, 1, 6, dtype=torch.bool) for _ in combinations(range(6), gone)]
    for mask, columns in zip(supports, combinations(range(6), gone), strict=True):
        mask[0, 0, list(columns)] = False
    least = min(error(hessian, target, mask) for mask in supports)
    keep = ways(hessian, target, 1, BlockPattern(1, 1)).keep(gone)
    assert int((~keep).sum()) == gone
    ours = error(hessian, target, keep)
    assert ours >= least * (1 - 1e-6)
    if gone == 1:
        assert ours == pytest.approx(least, rel=1e-5)
    assert ours <= 2.5 * least


def test_of_the_order_of_one_row_each_step_is_the_cheapest_next_one() -> None:
    """The whole way of a row, each step against all single removals after an exact refit."""
    hessian, target = case(5, 1, 8)
    found = ways(hessian, target, 1, BlockPattern(1, 1))
    keep = torch.ones(1, 1, 8, dtype=torch.bool)
    for place in range(8):
        tried = {}
        for column in keep[0, 0].nonzero()[:, 0].tolist():
            mask = keep.clone()
            mask[0, 0, column] = False
            tried[column] = error(hessian, target, mask)
        expected = min(tried, key=tried.__getitem__)
        assert int(found.gone[0, place]) == expected
        keep[0, 0, expected] = False


@pytest.mark.parametrize("text", PATTERNS)
@pytest.mark.parametrize("gone", [0, 17, 48, 80, 1000])
def test_with_inputs_that_have_nothing_to_do_with_each_other(text: str, gone: int) -> None:
    """A diagonal Hessian: the best blocks are those with the least weighted squares, whatever their number."""
    rng = np.random.default_rng(0)
    diagonal, target = torch.from_numpy(rng.random(12) + 0.5), torch.from_numpy(rng.normal(size=(1, 12, 12)))
    pattern = BlockPattern(*map(int, text.split("x")))
    found = ways(torch.diag(diagonal)[None], target, 1, pattern).keep(gone)
    scores = (target.square() * diagonal)[0].numpy()
    tall, wide = pattern.outputs, pattern.inputs
    sums = scores.reshape(12 // tall, tall, 12 // wide, wide).sum((1, 3))
    order = np.argsort(sums, axis=None)[: gone // (tall * wide)]
    expected = np.ones(sums.size, bool)
    expected[order] = False
    expected = expected.reshape(sums.shape).repeat(tall, 0).repeat(wide, 1)
    assert (found[0].numpy() == expected).all()


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from([(2, 4), (1, 4), (1, 2)]), st.sampled_from([(4, 1), (8, 1), (6, 2)]))
def test_n_of_m_in_every_group(seed: int, pattern: tuple[int, int], size: tuple[int, int]) -> None:
    kept, of = pattern
    inputs, taps = size
    hessian, target = case(seed, 3, inputs * taps)
    keep = ways(hessian, target, taps, NMPattern(kept, of)).keep(0)
    shaped = keep.reshape(3, inputs, taps)
    for start in range(0, inputs, of):
        group = shaped[:, start : start + of]
        assert (group.sum(1) == min(kept, group.shape[1])).all()


def test_n_of_m_against_all_supports() -> None:
    """1:2 of six inputs: eight supports a row. The mean over many rows stays within a tenth of the best."""
    ours, best = 0.0, 0.0
    for seed in range(30):
        hessian, target = case(seed, 1, 6)
        ours += error(hessian, target, ways(hessian, target, 1, NMPattern(1, 2)).keep(0))
        tried = []
        for choice in range(8):
            mask = torch.zeros(1, 1, 6, dtype=torch.bool)
            for pair in range(3):
                mask[0, 0, 2 * pair + (choice >> pair & 1)] = True
            tried.append(error(hessian, target, mask))
        best += min(tried)
    assert best <= ours <= 1.1 * best


@settings(max_examples=15)
@given(st.integers(0, 999), st.integers(0, 60), st.sampled_from(["1x1", "4x1", "4x4", "4x2"]))
def test_never_more_than_asked_for_and_nearly_that_many(seed: int, gone: int, text: str) -> None:
    """Ragged shapes too: 6 outputs and 5 inputs of two taps."""
    pattern = BlockPattern(*map(int, text.split("x")))
    hessian, target = case(seed, 6, 10)
    keep = ways(hessian, target, 2, pattern).keep(gone)
    zeros = int((~keep).sum())
    assert gone - pattern.outputs * pattern.inputs < zeros <= gone
    whole = keep.reshape(6, 5, 2)
    for mask in blocks_of(6, 5, 2, pattern):
        inside = whole.reshape(1, 6, 10)[mask]
        assert inside.all() or not inside.any()


def test_several_blocks_at_once_lose_little() -> None:
    """In large layers several go in one step: a little worse than one at a time, better than the smallest blocks."""
    hessian, target = case(2, 8, 64)
    exact, quick = (ways(hessian, target, 1, BlockPattern(4, 1), steps).keep(256) for steps in (64, 8))
    smallest = target.square().reshape(1, 2, 4, 64).sum(2)
    cut = smallest.flatten().sort().values[63]
    magnitude = (smallest > cut).repeat_interleave(4, 1)
    one, several, plain = (error(hessian, target, keep) for keep in (exact, quick, magnitude))
    assert one <= several < plain


def test_groups_are_pruned_by_their_own_inputs_and_compared() -> None:
    """Of two groups one has inputs that hardly vary: its weights go first."""
    hessian, target = case(0, 4, 4, groups=2)
    hessian[1] /= 1e6
    keep = ways(hessian, target, 1, BlockPattern(1, 1)).keep(12)
    assert keep[0].all() or int(keep[0].sum()) >= int(keep[1].sum()) + 8
