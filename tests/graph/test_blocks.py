"""Blocks in torch against blocks in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.pattern import BlockPattern
from shoestring.graph.blocks import sizes, spread, sums


@st.composite
def cases(draw: st.DrawFn) -> tuple[BlockPattern, torch.Tensor, int]:
    pattern = BlockPattern(draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    groups = draw(st.integers(1, 3))
    taps = draw(st.sampled_from([(), (1, 1), (3, 2), (3,)]))
    shape = (groups * draw(st.integers(1, 6)), draw(st.integers(1, 5)), *taps)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return pattern, torch.from_numpy(rng.standard_normal(shape)), groups


@given(cases())
def test_sums_sizes_and_back(case: tuple[BlockPattern, torch.Tensor, int]) -> None:
    pattern, weight, groups = case
    shape = tuple(weight.shape)
    found = sums(weight.square(), pattern, groups)
    np.testing.assert_allclose(found.sqrt().numpy(), pattern.norms(weight.numpy(), groups), rtol=1e-12)
    np.testing.assert_array_equal(sizes(shape, pattern, groups).numpy(), pattern.sizes(shape, groups))
    keep = found > found.median()
    np.testing.assert_array_equal(spread(keep, pattern, shape).numpy(), pattern.expand(keep.numpy(), shape, groups))


def test_gradients_pass_both_ways() -> None:
    weight = torch.randn(6, 5, 2, dtype=torch.float64, requires_grad=True)
    pattern = BlockPattern(4, 2)
    assert torch.autograd.gradcheck(lambda w: spread(sums(w.square(), pattern), pattern, (6, 5, 2)), weight)


def test_layouts_of_memory_do_not_matter() -> None:
    weight = torch.randn(8, 4, 3, 3)
    laid = weight.to(memory_format=torch.channels_last)
    for pattern in (BlockPattern(4, 1), BlockPattern(1, 1)):
        assert torch.equal(sums(weight, pattern), sums(laid, pattern))


@pytest.mark.parametrize("pattern", [BlockPattern(1, 1), BlockPattern(4, 1)])
def test_one_group_a_channel(pattern: BlockPattern) -> None:
    weight = torch.randn(6, 1, 3, 3)
    assert sums(weight, pattern, 6).shape == (6, 1, 1, 9)
