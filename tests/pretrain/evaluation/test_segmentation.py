"""IoU of parts and scenes against loops, a head that finds the minimum, and who teaches it."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation import segmentation
from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.segmentation import (
    CATEGORY,
    PART,
    SCENE,
    Head,
    PointLabels,
    choose_part,
    head_logits,
    part_miou,
    scene_iou,
    segmentation_scores,
)
from shoestring.pretrain.evaluation.splits import grouped_folds, stratified_folds


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


def known(features: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> Head:
    """A head that has learned nothing: features are its logits."""
    return lambda test: test


def iou(ours: list[int], theirs: list[int], label: int) -> float | None:
    """Of sets of points, with loops."""
    found = {n for n, own in enumerate(ours) if own == label}
    there = {n for n, own in enumerate(theirs) if own == label}
    return len(found & there) / len(found | there) if found | there else None


@pytest.fixture
def shapes_with_parts() -> tuple[np.ndarray, PointLabels]:
    """Ten shapes of two categories, 60 points each, some without a class; logits that are wrong now and then."""
    random = np.random.default_rng(0)
    categories = np.arange(10) % 2
    labels = 3 * categories[:, None] + random.integers(0, 2, (10, 60))
    labels[3:6, :20] += 1  # parts 2 and 5 are in some shapes only
    logits = np.eye(6)[labels] + random.standard_normal((10, 60, 6)) * 0.6
    labels[random.uniform(size=labels.shape) < 0.1] = -1
    return logits, PointLabels(labels, categories)


def test_parts_are_scored_as_loops_score_them(shapes_with_parts) -> None:
    logits, of = shapes_with_parts
    splits = stratified_folds(of.categories, folds=5, seeds=2)
    clouds = np.arange(10.0)[:, None, None] * np.ones((1, 60, 3))  # the number of a cloud, to find its logits by

    def features(some: np.ndarray) -> np.ndarray:
        return logits[some[:, 0, 0].astype(int)]

    found = segmentation_scores(features, clouds, of, splits, known)
    assert list(found) == [PART, CATEGORY]
    for number, split in enumerate(splits):
        scores: dict[int, list[float]] = {0: [], 1: []}
        for item in split.test:
            category = int(of.categories[item])
            own = [3 * category + max(range(3), key=lambda p: logits[item, n, 3 * category + p]) for n in range(60)]
            pairs = [(p, t) for p, t in zip(own, of.labels[item].tolist(), strict=True) if t >= 0]
            ours, theirs = [p for p, _ in pairs], [t for _, t in pairs]
            parts = [iou(ours, theirs, 3 * category + part) for part in range(3)]
            scores[category].append(100 * sum(1.0 if one is None else one for one in parts) / 3)
        every = scores[0] + scores[1]
        assert found[PART][number] == pytest.approx(sum(every) / len(every))
        assert found[CATEGORY][number] == pytest.approx(sum(sum(s) / len(s) for s in scores.values()) / 2)


def test_scenes_are_scored_over_the_points_of_a_split(shapes_with_parts) -> None:
    logits, parts = shapes_with_parts
    of = PointLabels(parts.labels)
    splits = grouped_folds(np.arange(10) // 2, folds=5, seeds=1)
    clouds = np.arange(10.0)[:, None, None] * np.ones((1, 60, 3))
    found = segmentation_scores(lambda some: logits[some[:, 0, 0].astype(int)], clouds, of, splits, known)
    assert list(found) == [SCENE]
    for score, split in zip(found[SCENE], splits, strict=True):
        pairs = [(int(logits[i, n].argmax()), int(of.labels[i, n])) for i in split.test for n in range(60)]
        pairs = [(p, t) for p, t in pairs if t >= 0]
        each = [iou([p for p, _ in pairs], [t for _, t in pairs], label) for label in range(6)]
        there = [one for one in each if one is not None]
        assert score == pytest.approx(100 * sum(there) / len(there))


def test_heads_learn_from_training_clouds_alone(shapes_with_parts) -> None:
    logits, of = shapes_with_parts
    splits = stratified_folds(of.categories, folds=5, seeds=1)
    clouds = np.arange(10.0)[:, None, None] * np.ones((1, 60, 3))
    taught: list[tuple[np.ndarray, int]] = []

    def probe(features: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> Head:
        taught.append((features, seed))
        assert classes == 6 and len(features) == len(labels) and labels.min() >= 0
        return lambda test: test

    segmentation_scores(lambda some: logits[some[:, 0, 0].astype(int)], clouds, of, splits, probe)
    for (features, seed), split in zip(taught, splits, strict=True):
        rows = {tuple(row) for row in logits[split.train].reshape(-1, 6)}
        assert {tuple(row) for row in features} <= rows
        assert len(features) == (of.labels[split.train] >= 0).sum()
        assert seed == split.seed


def test_of_many_clouds_some_points_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "TAUGHT", 400)
    labels = np.tile(np.arange(100) % 2, (50, 1))
    sizes = []

    def probe(features: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> Head:
        sizes.append(len(features))
        return lambda test: test

    splits = grouped_folds(np.arange(50), folds=5, seeds=1)
    ones = np.ones((50, 100, 3))
    segmentation_scores(lambda some: some[..., :2], ones, PointLabels(labels), splits, probe)
    assert sizes == [40 * 16] * 5  # 400 / 40 would be fewer than the least


def test_features_that_tell_are_told_by_the_linear_head() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (8, 50))
    clouds = random.standard_normal((8, 50, 3)) * 0.1 + np.eye(3)[labels]
    splits = grouped_folds(np.arange(8), folds=4, seeds=1)
    told = segmentation_scores(lambda some: some, clouds, PointLabels(labels), splits)
    blind = segmentation_scores(lambda some: some[..., ::-1][:, ::-1], clouds, PointLabels(labels), splits)
    assert told[SCENE].mean() > 99 and blind[SCENE].mean() < 50


@pytest.mark.parametrize(
    ("labels", "categories", "message"),
    [
        (np.zeros((2, 3)), None, "are not whole numbers"),
        (np.arange(6).reshape(2, 3), np.zeros(3, int), r"categories \[3\] are not one of each of 2 shapes"),
        (np.full((2, 3), 4), None, "fewer than two classes"),
        (np.array([[0, 1, -1], [-1, -1, -1]]), None, "no point of cloud 1 has a class"),
    ],
)
def test_labels_that_do_not_do(labels: np.ndarray, categories: np.ndarray | None, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        PointLabels(labels, categories)
