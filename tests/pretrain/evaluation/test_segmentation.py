"""IoU of parts and scenes against loops, and a head that finds the minimum."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.segmentation import choose_part, head_logits, part_miou, scene_iou


def test_parts_are_measured_as_shapenetpart_is() -> None:
    parts = {0: (0, 1), 1: (2, 3, 4)}
    target = [np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), np.array([2, 2, 3, 3])]
    predicted = [np.array([0, 1, 1, 1]), np.array([0, 0, 0, 0]), np.array([2, 3, 3, 3])]
    # shape 0: 1/2 and 2/3; shape 1: 1 and an absent part; shape 2: 1/2, 2/3 and an absent part
    shapes = [(1 / 2 + 2 / 3) / 2, 1.0, (1 / 2 + 2 / 3 + 1) / 3]
    instance, category = part_miou(predicted, target, [0, 0, 1], parts)
    assert instance == pytest.approx(100 * np.mean(shapes))
    assert category == pytest.approx(100 * np.mean([np.mean(shapes[:2]), shapes[2]]))


def test_a_part_predicted_but_not_there_counts_as_zero() -> None:
    instance, _ = part_miou([np.array([0, 0, 0, 1])], [np.zeros(4, int)], [0], {0: (0, 1)})
    assert instance == pytest.approx(100 * (3 / 4 + 0) / 2)


def test_only_parts_of_the_category_are_chosen() -> None:
    logits = np.array([[9.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert choose_part(logits, (1, 2)).tolist() == [1, 2]


def test_counts_that_differ_are_refused() -> None:
    with pytest.raises(BadInput, match="1 predictions, 1 targets, 2 categories"):
        part_miou([np.zeros(2)], [np.zeros(2)], [0, 1], {0: (0,)})


def test_scenes_have_one_confusion_matrix() -> None:
    random = np.random.default_rng(0)
    target, predicted = random.integers(-1, 3, 500), random.integers(0, 3, 500)
    found = scene_iou(predicted, target, 4)
    for label in range(3):
        both = sum(p == label == t for p, t in zip(predicted, target, strict=True))
        either = sum(t >= 0 and label in (p, t) for p, t in zip(predicted, target, strict=True))
        assert found[label] == pytest.approx(100 * both / either)
    assert np.isnan(found[3])


def test_the_head_is_softmax_regression() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((200, 4)), random.integers(0, 3, 200)
    x[:, 0] += y
    ours = head_logits(x, y, x, decay=1e-2)
    scaled = (x - x.mean(0)) / x.std(0, ddof=1)
    # mean loss + d w^2 is C sum loss + w^2 / 2 with C = 1 / (2 d n)
    model = scikit_learn("linear_model").LogisticRegression(C=1 / (2 * 1e-2 * 200), tol=1e-8).fit(scaled, y)
    theirs = model.predict_log_proba(scaled)
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=0.02)


def test_unlabelled_points_train_nothing_and_balance_lifts_the_rare() -> None:
    random = np.random.default_rng(1)
    y = (random.uniform(size=1000) < 0.05).astype(int)
    x = y[:, None] + random.standard_normal((1000, 1))
    hidden = np.where(random.uniform(size=1000) < 0.5, -1, y)
    np.testing.assert_allclose(
        head_logits(x, hidden, x), head_logits(x[hidden >= 0], y[hidden >= 0], x), rtol=1e-5, atol=1e-6
    )
    plain, balanced = (head_logits(x, y, x, balanced=b).argmax(1).mean() for b in (False, True))
    assert plain < 0.05 < balanced
    with pytest.raises(BadInput, match="no point has a label"):
        head_logits(x, np.full(1000, -1), x)
