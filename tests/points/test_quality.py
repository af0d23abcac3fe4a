"""Intersection over union, against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoestring.core.errors import BadInput
from shoestring.points.quality import scene_miou, shape_iou


def one_hot(labels: list[list[int]], parts: int = 4) -> np.ndarray:
    return np.eye(parts)[np.array(labels)]


def test_by_hand() -> None:
    """Part 0: 1 of 2; part 1: 1 of 3; part 2: 0 of 1 in the second shape."""
    outputs = one_hot([[0, 1, 1, 0], [1, 1, 1, 2]])
    targets = np.array([[0, 1, 0, 1], [1, 1, 1, 1]])
    first, second = (1 / 3 + 1 / 3) / 2, (3 / 4 + 0) / 2
    np.testing.assert_allclose(shape_iou(outputs, targets), [first, second])
    # Only parts of the category may be chosen, and those nobody sees count as right.
    asked = [np.array([0, 1]), np.array([1, 3])]
    scores = shape_iou(outputs, targets, asked)
    np.testing.assert_allclose(scores, [first, 1.0])  # of 1 and 3 all-zero output 2 leaves the first
    # Over all scenes: class 0 1 of 3, class 1 4 of 7.
    assert scene_miou(outputs, targets) == pytest.approx((1 / 3 + 4 / 7) / 2)


@given(seed=st.integers(0, 1000), parts=st.integers(1, 4))
def test_against_sets(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    outputs, targets = rng.random((3, 9, parts)), rng.integers(-1, parts, (3, 9))
    predicted = outputs.argmax(axis=2)
    expected = []
    for p, t in zip(predicted, targets, strict=True):
        places = [i for i in range(9) if t[i] >= 0]
        ious = []
        for part in range(parts):
            a, b = {i for i in places if p[i] == part}, {i for i in places if t[i] == part}
            if a | b:
                ious.append(len(a & b) / len(a | b))
        expected.append(np.mean(ious) if ious else 1.0)
    np.testing.assert_allclose(shape_iou(outputs, targets), expected)
    whole = []
    for part in range(parts):
        a, b = (predicted == part) & (targets >= 0), targets == part
        if b.any():
            whole.append((a & b).sum() / (a | b).sum())
    assert scene_miou(outputs, targets) == pytest.approx(np.mean(whole) if whole else 1.0)


def test_broken_outputs_are_wrong() -> None:
    outputs, targets = one_hot([[0, 0]]), np.array([[0, 0]])
    outputs[0, 0, 1] = np.nan
    assert shape_iou(outputs, targets).tolist() == [0.5]
    assert scene_miou(outputs, targets) == 0.5


def test_refusals() -> None:
    with pytest.raises(BadInput, match="are not"):
        shape_iou(np.zeros((2, 3)), np.zeros((2, 3), int))
    with pytest.raises(BadInput, match="are not"):
        scene_miou(np.zeros((1, 2, 3)), np.zeros((1, 2)))
    with pytest.raises(BadInput, match="target 3 is not one of 3 parts"):
        shape_iou(np.zeros((1, 2, 3)), np.array([[0, 3]]))
