import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import wasserstein_distance

from shoestring.core.errors import BadInput
from shoestring.core.quality import (
    DIVERGENCE,
    RELATIVE_ERROR,
    agreement,
    distance,
    divergence,
    relative_error,
    top1,
)

LOGITS = arrays(np.float32, (3, 5), elements=st.floats(-50, 50, width=32))
ANYTHING = arrays(np.float32, (3, 5), elements=st.floats(width=32))
BROKEN_ROWS = [[np.nan, 0, 0], [np.inf, 0, 0], [np.inf, np.inf, 0], [-np.inf] * 3, [np.nan] * 3]


@given(LOGITS, LOGITS)
def test_divergence_is_the_probability_that_has_to_be_moved(outputs, original):
    # an original whose rows are all distributions is taken for probabilities (tested below)
    assume(not np.allclose(original.sum(axis=1), 1, atol=1e-2))
    p, q = softmax(outputs.astype(np.float64), axis=1), softmax(original.astype(np.float64), axis=1)
    # the largest difference over all events (sets of classes): the definition of total variation, by brute force
    events = np.array([[code >> k & 1 for k in range(5)] for code in range(32)])
    largest = np.abs((p - q) @ events.T).max(axis=1)
    assert divergence(outputs, original) == pytest.approx(largest, abs=1e-12)


def test_divergence_of_two_classes_is_the_earth_mover_distance():
    p, q = np.array([0.9, 0.1]), np.array([0.25, 0.75])
    moved = wasserstein_distance([0, 1], [0, 1], p, q)
    assert divergence(np.log(p)[None], np.log(q)[None]) == pytest.approx([moved])
    assert divergence(p[None], q[None]) == pytest.approx([moved])


def test_probabilities_are_not_softmaxed_again():
    original = np.eye(1000, dtype=np.float32)[:4]
    wrong = np.roll(original, 1, axis=1)
    assert divergence(wrong, original).tolist() == [1, 1, 1, 1]
    assert divergence(original, original).tolist() == [0, 0, 0, 0]


def test_quantised_probabilities_are_brought_to_sum_one():
    original, outputs = np.array([[0.5, 0.5, 0.0]]), np.array([[0.4, 0.4, -0.01]])
    assert divergence(outputs, original) == pytest.approx([0])


@given(ANYTHING, ANYTHING)
def test_divergence_stays_in_range_whatever_comes(outputs, original):
    for values in (divergence(outputs, original), relative_error(outputs, original)):
        assert values.shape == (3,)
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize("row", BROKEN_ROWS)
def test_a_broken_row_counts_in_full_on_either_side(row):
    broken, good = np.array([row, [1.0, 2, 3]]), np.array([[1.0, 2, 3], [1.0, 2, 3]])
    for pair in ((broken, good), (good, broken), (broken, broken)):
        assert divergence(*pair).tolist() == [1, 0]
        assert relative_error(*pair).tolist() == [1, 0]
        assert agreement(*pair).tolist() == [False, True]
    assert top1(broken).tolist() == [-1, 2]


def test_broken_probabilities_count_in_full():
    original = np.array([[0.5, 0.5]] * 4)
    outputs = np.array([[np.nan, 1], [0, 0], [np.inf, 0], [0.5, 0.5]])
    assert divergence(outputs, original).tolist() == [1, 1, 1, 0]


def test_a_masked_class_is_a_class_of_probability_zero():
    masked = np.array([[0.0, -np.inf, 0.0]])
    assert divergence(masked, masked).tolist() == [0]
    assert divergence(masked, np.zeros((1, 3))) == pytest.approx([1 / 3])


def test_huge_and_half_precision_logits_do_not_overflow():
    huge = np.array([[1e300, -1e300], [3e4, -3e4]])
    assert divergence(huge, huge[:, ::-1]).tolist() == [1, 1]
    half = np.array([[60000, 50000]], np.float16)
    assert divergence(half, half).tolist() == [0]


@given(arrays(np.float32, (4, 2, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_relative_error_against_a_loop(outputs):
    original = np.linspace(-2, 3, 24).reshape(4, 2, 3)
    for y, y0, got in zip(outputs, original, relative_error(outputs, original), strict=True):
        expected = sum((a - b) ** 2 for a, b in zip(y.flat, y0.flat, strict=True)) ** 0.5
        assert got == pytest.approx(min(1.0, expected / sum(b**2 for b in y0.flat) ** 0.5), rel=1e-9)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1.0, 1e30, 1e200])
def test_relative_error_does_not_depend_on_the_size_of_the_signal(size):
    original = np.array([[3.0, 4.0]]) * size
    assert relative_error(original * 1.25, original) == pytest.approx([0.25])


def test_relative_error_against_zeros():
    zeros = np.zeros((2, 3))
    assert relative_error(np.array([[0.0, 0, 0], [0, 1e-9, 0]]), zeros).tolist() == [0, 1]


def test_agreement_and_ties():
    original = np.array([[0, 2, 1], [5, 5, 0], [1, 0, 0]])
    assert agreement(np.array([[9, 10, 1], [7, 7, 0], [0, 1, 0]]), original).tolist() == [True, True, False]


def test_distance_picks_the_measure_by_shape():
    rng = np.random.default_rng(0)
    for shape, kind in (
        ((4, 10), DIVERGENCE),
        ((4, 1), RELATIVE_ERROR),
        ((4,), RELATIVE_ERROR),
        ((4, 10, 7, 7), RELATIVE_ERROR),
    ):
        original = rng.normal(size=shape)
        outputs = original + rng.normal(size=shape)
        got, values = distance(outputs, original)
        assert got == kind
        assert values.shape == (4,)
        assert (values > 0).all()


@pytest.mark.parametrize("measure", [divergence, agreement, relative_error, distance])
def test_other_shapes_are_refused(measure):
    with pytest.raises(BadInput, match="equal shapes"):
        measure(np.zeros((4, 10)), np.zeros((4, 9)))


@pytest.mark.parametrize("measure", [divergence, agreement])
def test_one_class_cannot_diverge(measure):
    with pytest.raises(BadInput, match="relative_error"):
        measure(np.zeros((4, 1)), np.zeros((4, 1)))


def test_nothing_in_nothing_out():
    assert divergence(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
