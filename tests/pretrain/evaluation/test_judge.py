"""Subjects through protocols: the scores are those of the protocols, the differences those of the scores."""

import numpy as np
import pytest
import torch

from shoestring.core.errors import BadInput
from shoestring.core.evaluation import Cost
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.evaluation import judge as judging
from shoestring.pretrain.evaluation.judge import (
    PROTOCOLS,
    Judged,
    Scores,
    Subject,
    exam,
    judge,
    parse_protocols,
    point_exam,
    require_protocols,
    rows,
)
from shoestring.pretrain.evaluation.linear_svm import svm_scores
from shoestring.pretrain.evaluation.nearest import nearest_scores
from shoestring.pretrain.evaluation.segmentation import PointLabels, segmentation_scores
from shoestring.pretrain.evaluation.subjects import encoder_subject


def heights(clouds: np.ndarray) -> np.ndarray:
    """The sides of the box."""
    return np.ptp(clouds, axis=1)


def sizes(clouds: np.ndarray) -> np.ndarray:
    """Moments that no rotation changes."""
    away = np.linalg.norm(clouds - clouds.mean(1, keepdims=True), axis=2)
    return np.stack([away.mean(1), away.std(1), away.max(1)], 1)


def test_scores_are_those_of_the_protocols(shapes) -> None:
    of = exam(*shapes, seeds=2)
    found = judge(Subject("sides", heights), of, ("linear", "knn"))
    assert list(found) == ["all labels", "nearest neighbours"]
    assert found["all labels"].values == tuple(svm_scores(heights(of.clouds), of.labels, of.splits))
    assert found["nearest neighbours"].values == tuple(nearest_scores(heights(of.clouds), of.labels, of.splits))
    assert {scores.seeds for scores in found.values()} == {2}
    assert of.ratio == pytest.approx(1 / 4, abs=0.05)


def test_rotation_and_invariance_tell_who_knows_the_vertical(shapes) -> None:
    of = exam(*shapes, seeds=1)
    asked = ("rotation", "invariance")
    upright, any_way = (judge(Subject(of_.__name__, of_), of, asked) for of_ in (heights, sizes))
    assert list(upright) == ["turned z/z", "turned z/SO3", "turned SO3/SO3", "invariance error"]
    assert np.mean(any_way["invariance error"].values) < 1e-5 < 0.1 < np.mean(upright["invariance error"].values)
    assert not any_way["invariance error"].higher_is_better
    table = {(row.name, row.protocol): row for row in rows([Judged("heights", upright), Judged("sizes", any_way)])}
    assert table["sizes", "z/SO3 minus z/z"].mean == pytest.approx(0)
    assert table["heights", "z/SO3 minus z/z"].mean < -10
    assert table["heights", "z/SO3 minus z/z"].unit == "pt"


def test_an_untrained_network_is_trained_from_scratch(shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    of = exam(*shapes, seeds=1)
    asked = []

    def scores(make, clouds, labels, splits, **how):
        asked.append(make(4)(torch.zeros(1, 64, 3)).shape)
        assert splits is of.splits and how == {"up": 1}
        return {"as given": np.full(5, 70.0), "z": np.full(5, 60.0), "SO3": np.full(5, 50.0)}

    monkeypatch.setattr(judging, "fine_tune_scores", scores)
    encoder = PointViT(dim=16, depth=1, heads=2, patches=4, neighbours=8)
    found = judge(encoder_subject("untrained", encoder), of, ("fine-tune",))
    assert {name: scores.values[0] for name, scores in found.items()} == {
        "fine-tuned": 70.0,
        "fine-tuned z/z": 60.0,
        "fine-tuned z/SO3": 50.0,
    }
    assert asked == [(1, 3)]
    assert judge(Subject("sides", heights), of, ("fine-tune",)) == {}


@pytest.mark.parametrize("up", ["y", "z"])
def test_vectors_are_judged_by_how_they_turn(shapes, up: str) -> None:
    """A corner turns along anyhow; made upright, it does about the vertical only."""
    of = exam(*shapes, seeds=1, up=up)
    level = np.array([axis != up for axis in "xyz"])
    found = {
        name: judge(Subject(name, sizes, vectors=vectors), of, ("invariance",))
        for name, vectors in (("corner", lambda clouds: clouds[:, :1]), ("level", lambda of: of[:, :1] * level))
    }
    names = ["invariance error", "equivariance error, z", "equivariance error, SO3"]
    assert list(found["corner"]) == names
    means = {who: [np.mean(scores[name].values) for name in names[1:]] for who, scores in found.items()}
    assert max(means["corner"]) < 1e-5
    assert means["level"][0] < 1e-5 < 0.3 < means["level"][1]
    assert not found["level"]["equivariance error, z"].higher_is_better
    assert list(judge(Subject("sizes", sizes), of, ("invariance",))) == names[:1]


def test_labels_and_few_shot(shapes) -> None:
    of = exam(*shapes, seeds=1)
    assert list(judge(Subject("sides", heights), of, ("labels",))) == ["25% of the labels"]
    clouds, labels = np.concatenate([of.clouds] * 3), np.arange(108) % 6
    found = judge(Subject("sides", heights), exam(clouds, labels), ("few-shot",))["5-way 10-shot"]
    assert (len(found.values), found.ratio) == (10, 0.0)


def test_a_subject_may_be_shown_clouds_of_its_own(shapes) -> None:
    of = exam(*shapes, seeds=1)
    other = Subject("sides", heights, clouds=np.zeros_like(of.clouds))
    assert np.mean(judge(other, of, ("linear",))["all labels"].values) < 50


def test_differences_are_paired() -> None:
    ours, theirs = Scores((80.0, 60.0, 70.0), 1, 0.25), Scores((70.0, 50.0, 60.0), 1, 0.25)
    judged = [
        Judged("ours", {"all labels": ours, "turned z/z": theirs, "turned SO3/SO3": ours}, Cost(1)),
        Judged("theirs", {"all labels": theirs, "turned z/z": ours}, baseline=True),
        Judged("others", {"all labels": ours, "turned SO3/SO3": theirs}, baseline=True),
        Judged("few", {"all labels": Scores((1.0, 2.0), 1, 0.25)}),
    ]
    rivals = ("theirs", "absent")
    against = {"all labels": rivals, "turned z/z": rivals, "turned SO3/SO3": ("others",)}
    table = {(row.name, row.protocol): row for row in rows(judged, against)}
    over = table["ours", "over theirs"]
    assert (over.mean, over.low, over.high, over.unit) == (10.0, 10.0, 10.0, "pt")
    assert table["ours", "all labels"].cost == Cost(1)
    assert table["ours", "all labels"].low < 60
    assert table["ours", "z/z over theirs"].mean == -10.0
    assert table["ours", "SO3/SO3 over others"].mean == 10.0
    assert ("ours", "over others") not in table
    assert not any("over" in row.protocol for row in rows(judged))
    assert {name for name, protocol in table if "over" in protocol} == {"ours"}


def test_few_items_are_few_folds() -> None:
    clouds, labels = np.random.default_rng(0).standard_normal((7, 20, 3)), np.array([0, 0, 0, 1, 1, 1, 1])
    assert len(exam(clouds, labels, seeds=1).splits) == 3
    with pytest.raises(BadInput, match="class 0 has 1"):
        exam(clouds[2:], labels[2:])


def test_protocols_by_name() -> None:
    assert parse_protocols("linear, knn") == ("linear", "knn")
    assert parse_protocols("all") == (
        *(name for name in PROTOCOLS if name not in ("segmentation", "fine-tune")),
        "cost",
    )
    for wrong in ("svm,linear", "", "cost"):
        with pytest.raises(BadInput, match=r"protocols: .* will not do; write all, or some of linear,knn"):
            parse_protocols(wrong)


def test_what_is_missing_is_told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    require_protocols(("linear", "knn"), np.arange(20) % 2)
    with pytest.raises(BadInput, match="5-way episodes cannot be drawn"):
        require_protocols(("few-shot",), np.arange(20) % 2)

    def absent(module: str) -> None:
        raise BadInput("needs scikit-learn")

    monkeypatch.setattr(judging, "scikit_learn", absent)
    with pytest.raises(BadInput, match="needs scikit-learn"):
        require_protocols(("linear",), np.arange(20) % 2)


def upper(clouds: np.ndarray) -> np.ndarray:
    """Of each point how high it is."""
    return clouds[..., 1:2]


def test_points_are_judged_on_the_splits_of_their_clouds(shapes) -> None:
    clouds, kinds = shapes
    labels = PointLabels(3 * kinds[:, None] + (clouds[..., 1] > 0), kinds)
    of = point_exam(clouds, labels, np.arange(36), seeds=2)
    expected = exam(clouds, kinds, seeds=2)
    assert [split.test.tolist() for split in of.splits] == [split.test.tolist() for split in expected.splits]
    ours = Subject("sides", heights, points=upper)
    found = judge(ours, of, ("linear", "segmentation"))
    assert list(found) == ["all labels", "part mIoU", "category mIoU"]
    scores = segmentation_scores(upper, clouds, labels, of.splits)
    assert found["part mIoU"].values == tuple(scores["part mIoU"])
    assert np.mean(found["part mIoU"].values) > 95
    assert (found["part mIoU"].seeds, found["part mIoU"].ratio) == (2, of.ratio)
    theirs = judge(Subject("moments", sizes, points=lambda x: x[..., :1], baseline=True), of, ("segmentation",))
    against = {"part mIoU": ("b",)}
    table = {(r.name, r.protocol): r for r in rows([Judged("a", found), Judged("b", theirs, baseline=True)], against)}
    assert table["a", "part mIoU over b"].mean > 20
    assert judge(Subject("sides", heights), of, ("segmentation",)) == {}


def test_scenes_and_single_categories_are_split_by_group(shapes) -> None:
    clouds = shapes[0]
    for categories in (None, np.zeros(36, int)):
        labels = PointLabels((clouds[..., 1] > 0).astype(int), categories)
        of = point_exam(clouds, labels, np.arange(36) // 9, seeds=1, up="z")
        assert (len(of.splits), of.up) == (4, 2)
        assert all(len(split.test) == 9 for split in of.splits)
        (name,) = judge(Subject("sides", heights, points=upper), of, ("segmentation",))
        assert name == ("scene mIoU" if categories is None else "part mIoU")
    with pytest.raises(BadInput, match="1 clouds or scans cannot be parted into 2 folds"):
        point_exam(clouds, labels, np.zeros(36, int))


def test_what_data_can_be_asked() -> None:
    assert parse_protocols("all", points=True) == (*(name for name in PROTOCOLS if name != "fine-tune"), "cost")
    assert parse_protocols("all", clouds=False, points=True) == ("invariance", "segmentation", "cost")
    assert parse_protocols("segmentation") == ("segmentation",)
    require_protocols(("segmentation", "cost"), None, points=True)
    with pytest.raises(BadInput, match="segmentation needs a class for each point; give ROOT/train of ShapeNetPart"):
        require_protocols(("linear", "segmentation"), np.arange(20) % 2)
    with pytest.raises(BadInput, match="classes of points only, not for linear,knn; write segmentation"):
        require_protocols(("linear", "knn", "segmentation"), None, points=True)
