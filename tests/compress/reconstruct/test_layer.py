"""One layer, fitted: never worse than it was, exact where the problem is linear, and within what it may be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from shoestring.compress.reconstruct import rounding
from shoestring.compress.reconstruct.layer import DAMPING, INPUTS, Asked, Given, damping, fit
from shoestring.compress.reconstruct.quadratic import refit
from shoestring.core.pattern import BlockPattern, NMPattern, Pattern
from shoestring.deploy.quantize import safe16_range

PATTERNS: list[Pattern | None] = [None, BlockPattern(1, 1), BlockPattern(4, 1), BlockPattern(4, 4), NMPattern(2, 4)]
Batch = tuple[Tensor, Tensor]


def case(seed: int, outputs: int = 6, inputs: int = 8, taps: int = 1, groups: int = 1) -> tuple[list[Batch], Given]:
    """Inputs that are correlated and a little wrong already, and a layer at the nearest 8-bit codes."""
    rng = np.random.default_rng(seed)
    width = inputs * taps
    mixing = np.eye(width) + 0.5 * rng.normal(size=(groups, width, width))
    clean = mixing @ rng.normal(size=(groups, width, 500)) + rng.normal(size=(groups, width, 1))
    weight, bias = rng.normal(size=(groups, outputs, width)), rng.normal(size=(groups, outputs))
    y = weight @ clean + bias[:, :, None]
    x = clean + 0.1 * rng.normal(size=clean.shape)
    parts = [(torch.from_numpy(x[:, :, p]).float(), torch.from_numpy(y[:, :, p]).float())
             for p in (slice(200), slice(200, 500))]  # fmt: skip
    original = torch.from_numpy(weight)
    steps = rounding.widest(original, rounding.Codes(8)) * 2  # room for pairs
    raw = rounding.nearest(original, steps, rounding.Codes(8))
    keep = torch.ones_like(original, dtype=torch.bool)
    return parts, Given(original, raw, steps, torch.from_numpy(bias), keep, taps)


def pruned(given: Given, pattern: Pattern, share: float) -> Given:
    """With the smallest blocks at zero."""
    groups, outputs, width = given.original.shape
    whole = given.original.reshape(groups * outputs, width // given.taps, given.taps, 1).numpy()
    if isinstance(pattern, NMPattern):
        keep = pattern.keep(whole)
    else:
        norms = pattern.norms(whole)
        keep = pattern.expand(norms > np.quantile(norms, share, method="lower"), whole.shape)
    kept = torch.from_numpy(np.ascontiguousarray(keep)).reshape(given.original.shape)
    return replace(given, keep=kept, raw=given.raw * kept)


def error(parts: list[Batch], weight: Tensor, bias: Tensor, bounds: tuple[float, float] | None) -> np.ndarray:
    x, y = (torch.cat([part[side] for part in parts], 2).double() for side in (0, 1))
    written = weight @ x + bias[:, :, None]
    if bounds:
        written, y = written.clamp(*bounds), y.clamp(*bounds)
    return (written - y).square().mean(2).numpy()


@settings(max_examples=60)
@given(
    st.integers(0, 9999),
    st.sampled_from(PATTERNS),
    st.sampled_from([8, 6, 4, 3]),
    st.booleans(),
    st.sampled_from([None, (0.0, float("inf")), (0.0, 6.0)]),
    st.sampled_from([(6, 8, 1, 1), (6, 8, 3, 1), (4, 4, 1, 2), (1, 1, 9, 5), (6, 5, 1, 1)]),
)
@example(0, BlockPattern(4, 4), 8, False, None, (6, 8, 3, 1))  # what was removed left a singular inverse
def test_never_worse_than_it_was(seed, pattern, bits, pairs, bounds, size) -> None:
    """On the inputs that it is fitted to, measured on those in float64: the layer, and without a pattern every row."""
    parts, given = case(seed, *size)
    if pattern is not None:
        given = pruned(given, pattern, 0.5)
    given = replace(given, bounds=bounds)
    asked = Asked(bits, pairs, pattern, damping(INPUTS))
    if bits < 8:  # as they come from rounding to nearest
        codes = rounding.Codes(bits)
        steps = rounding.widest(given.original, codes)
        given = replace(given, steps=steps, raw=rounding.nearest(given.original, steps, codes) * given.keep)
    found = fit(lambda: iter(parts), given, asked)
    if bits == 8 and pattern is None:
        bounds = None  # as little as is wrong then, it is not looked at
    before = error(parts, given.raw * given.steps[:, :, None], given.bias, bounds)
    after = error(parts, found.codes * found.steps[:, :, None], found.bias, bounds)
    if pattern is None:
        assert (after <= before * (1 + 1e-3) + 1e-5).all()
    assert after.sum() <= before.sum() * (1 + 1e-3) + 1e-5
    assert found.before == pytest.approx(before.mean(), rel=1e-2, abs=1e-4)
    assert found.after == pytest.approx(after.mean(), rel=1e-2, abs=1e-4)
    codes = rounding.Codes(bits)
    assert codes.low <= found.codes.min() <= found.codes.max() <= codes.high
    assert torch.equal(found.codes, found.codes.round())


def test_the_closed_form_of_a_linear_problem() -> None:
    """Inputs that are wrong: with codes fine enough what is found is least squares, whose error NumPy knows."""
    parts, given = case(3)
    found = fit(lambda: iter(parts), given, Asked(8, damping=1e-9))
    x, y = (torch.cat([part[side] for part in parts], 2)[0].double().numpy() for side in (0, 1))
    design = np.column_stack([x.T, np.ones(x.shape[1])])
    best, *_ = np.linalg.lstsq(design, y.T, rcond=None)
    fitted = (found.codes * found.steps[:, :, None])[0].numpy()
    np.testing.assert_allclose(fitted, best[:-1].T, atol=2 * float(found.steps.max()))
    least = np.square(design @ best - y.T).mean()
    assert least <= found.after * (1 + 1e-6)
    assert found.after - least < 0.05 * (found.before - least)


def test_inputs_that_are_right_leave_the_weight_alone() -> None:
    """Nothing is wrong with the inputs: the damped target is the original, and only rounding is left."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(1, 8, 400))).float()
    _, given = case(0)
    y = (given.original @ x.double() + given.bias[:, :, None]).float()
    found = fit(lambda: iter([(x, y)]), given, Asked(8))
    assert ((found.codes * found.steps[:, :, None] - given.original).abs() <= found.steps[:, :, None]).all()
    np.testing.assert_allclose(found.bias, given.bias, atol=0.02)


def test_a_shift_of_the_inputs_is_taken_by_the_bias() -> None:
    """Bias correction: all that is wrong is a constant on every input."""
    parts, given = case(1)
    shifted = [(x + 3, y) for x, y in parts]
    one, other = (fit(lambda seen=seen: iter(seen), given, Asked(8, damping=1e9)) for seen in (parts, shifted))
    assert torch.equal(one.codes, other.codes)
    moved = 3 * (one.codes * one.steps[:, :, None]).sum(2)
    np.testing.assert_allclose(one.bias - other.bias, moved, rtol=1e-3, atol=1e-3)
    assert other.after == pytest.approx(one.after, rel=1e-2)


@pytest.mark.parametrize("pattern", PATTERNS[1:], ids=str)
def test_zeros_are_of_the_pattern_and_as_many(pattern: Pattern) -> None:
    parts, given = case(5, outputs=8)
    given = pruned(given, pattern, 0.5)
    found = fit(lambda: iter(parts), given, Asked(8, pattern=pattern))
    zero = found.codes[0] == 0
    assert int(zero.sum()) >= int((~given.keep).sum())
    whole = found.codes.reshape(8, 8, 1, 1).numpy()
    if isinstance(pattern, NMPattern):
        assert pattern.keep(whole)[whole != 0].all()
    else:
        assert pattern.sparsity(whole) == pattern.sparsity(given.raw.reshape(8, 8, 1, 1).numpy())
    assert found.after < 0.7 * found.before


def test_zeros_without_a_pattern_stay_where_they_are() -> None:
    parts, given = case(5)
    given = pruned(given, BlockPattern(1, 1), 0.5)
    found = fit(lambda: iter(parts), given, Asked(8))
    assert not found.codes[~given.keep].any()
    assert found.after < 0.7 * found.before


@settings(max_examples=15)
@given(st.integers(0, 999), st.sampled_from([8, 4]))
def test_pairs_keep_their_limit(seed: int, bits: int) -> None:
    parts, given = case(seed, taps=2)
    found = fit(lambda: iter(parts), given, Asked(bits, pairs=True))
    assert safe16_range(found.codes.reshape(6, 8, 2, 1).numpy().astype(np.float32)).max() <= 128


def test_weights_are_chosen_with_rounding_in_mind() -> None:
    """Jointly: at 4 bits the codes found after pruning are better than the best real weights, rounded."""
    parts, given = case(9, outputs=8, inputs=16)
    given = pruned(given, BlockPattern(4, 1), 0.5)
    found = fit(lambda: iter(parts), given, Asked(4, pattern=BlockPattern(4, 1), damping=1e-6))
    keep = found.codes != 0
    x, y = (torch.cat([part[side] for part in parts], 2).double() for side in (0, 1))
    centred, wanted = x - x.mean(2, keepdim=True), y - y.mean(2, keepdim=True)
    hessian = centred @ centred.mT / x.shape[2] + 1e-9 * torch.eye(16)
    target = torch.linalg.solve(hessian, (wanted @ centred.mT / x.shape[2]).mT).mT
    best, codes = refit(hessian, target, keep), rounding.Codes(4)
    steps = rounding.widest(best, codes)
    rounded = rounding.nearest(best, steps, codes) * steps[:, :, None]
    bias = (y - rounded @ x).mean(2)
    least = error(parts, best, (y - best @ x).mean(2), None).mean()
    assert found.after - least < 0.8 * (error(parts, rounded, bias, None).mean() - least)


def test_fewer_inputs_hold_weights_more() -> None:
    assert damping(INPUTS) == damping(4 * INPUTS) == DAMPING
    assert damping(INPUTS // 5) == pytest.approx(5 * DAMPING)
