"""Every subject under every protocol on the same splits, as rows of one table with paired differences.

Scores are kept apart from the rows, because differences are taken split by split, and so that a script can keep what
took long.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy import ndarray
from torch import nn

from shoestring.core.errors import BadInput
from shoestring.core.evaluation import Cost, Row
from shoestring.core.resamples import resampled_difference, resampled_interval
from shoestring.pretrain.evaluation.equivariance import equivariance_error, invariance_error
from shoestring.pretrain.evaluation.few_shot import few_shot
from shoestring.pretrain.evaluation.fine_tune import AS_GIVEN, fine_tune_scores
from shoestring.pretrain.evaluation.label_fraction import fraction_scores
from shoestring.pretrain.evaluation.linear_svm import svm_scores
from shoestring.pretrain.evaluation.nearest import nearest_scores
from shoestring.pretrain.evaluation.rotation import Features, Probe, rotation_scores
from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.segmentation import (
    PointLabels,
    PointProbe,
    linear_head,
    segmentation_scores,
)
from shoestring.pretrain.evaluation.splits import Split, episodes, grouped_folds, stratified_folds

FOLDS, EPISODES, SHARE = 5, 10, 0.25
LINEAR, KNN, FEW, FRACTION = "all labels", "nearest neighbours", "5-way 10-shot", f"{SHARE:.0%} of the labels"
UPRIGHT, ANYHOW, ANY_POSE = "turned z/z", "turned z/SO3", "turned SO3/SO3"
ERROR, TURN_ERROR = "invariance error", "equivariance error, "
TUNED, SEGMENTATION = "fine-tuned", "segmentation"
SLOW = "fine-tune"  # trains a network a split: never meant by `all`
_SHOWN = 64  # clouds that are turned to see how features change


@dataclass(frozen=True)
class Scores:
    """`values`, one a split or episode, of `seeds` seeds. `ratio`: as `core.resamples` takes it."""

    values: tuple[float, ...]
    seeds: int
    ratio: float = 0.0
    higher_is_better: bool = True
    unit: str = "%"


@dataclass(frozen=True)
class Subject:
    """`features`: clouds [n, N, 3] to [n, d]; `probe`: what judges them where a protocol does not say. `clouds`: its
    own, where it is not to see those of all others (in metres, for example). `baseline`: there to be compared with.
    `vectors`: clouds to [n, count, 3], where it has some that are to turn along. `points`: clouds to features of their
    points [n, N, d], which `point_probe` judges; None for who has none. `network(seed, classes)`: what can be
    fine-tuned, [B, N, 3] to logits, where there is one: that of an untrained subject is trained from scratch."""

    name: str
    features: Features
    probe: Probe = svm_scores
    clouds: ndarray | None = None
    baseline: bool = False
    vectors: Features | None = None
    points: Features | None = None
    point_probe: PointProbe = linear_head
    network: Callable[[int, int], nn.Module] | None = None


@dataclass(frozen=True)
class Judged:
    """What a subject is worth by protocol, and what it costs."""

    name: str
    scores: Mapping[str, Scores]
    cost: Cost = field(default_factory=Cost)
    baseline: bool = False


@dataclass(frozen=True)
class Exam:
    """`clouds` float [n, N, 3] with `labels` int [n], none below 0, and the `splits` all subjects share. `up`: the
    vertical axis, 0 to 2. `points`: the classes of their points, where they have some."""

    clouds: ndarray
    labels: ndarray
    splits: Sequence[Split]
    up: int = 1
    points: PointLabels | None = None

    @property
    def seeds(self) -> int:
        return len({split.seed for split in self.splits})

    @property
    def ratio(self) -> float:
        return len(self.splits[0].test) / len(self.splits[0].train)


def exam(clouds: ndarray, labels: ndarray, seeds: int = 3, up: str = "y") -> Exam:
    """Five stratified folds, or as many as the smallest class has items, `seeds` times over. Raises BadInput where a
    class has one item only."""
    folds = min(FOLDS, max(2, int(np.unique(labels, return_counts=True)[1].min())))
    return Exam(clouds, labels, stratified_folds(labels, folds, seeds), "xyz".index(up))


def point_exam(clouds: ndarray, points: PointLabels, groups: ndarray, seeds: int = 3, up: str = "y") -> Exam:
    """Five folds, `seeds` times over: as in `exam` where the clouds are of several categories; else of `groups` int
    [n], none of which is parted, or as many as there are. Raises BadInput where nothing can be parted."""
    if points.categories is not None and len(np.unique(points.categories)) > 1:
        return replace(exam(clouds, points.categories, seeds, up), points=points)
    folds = min(FOLDS, max(2, len(np.unique(groups))))
    nothing = np.zeros(len(clouds), np.int64)
    return Exam(clouds, nothing, grouped_folds(groups, folds, seeds), "xyz".index(up), points)


Protocol = Callable[[Subject, Exam, ndarray, ndarray], dict[str, Scores]]


def _linear(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    return {LINEAR: _folds(subject.probe(features, of.labels, of.splits), of)}


def _knn(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    return {KNN: _folds(nearest_scores(features, of.labels, of.splits), of)}


def _few_shot(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    found = few_shot(features, of.labels, 5, 10, EPISODES, subject.probe).scores
    return {FEW: Scores(tuple(found.tolist()), EPISODES)}


def _labels(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    found = fraction_scores(lambda splits: subject.probe(features, of.labels, splits), of.labels, of.splits, (SHARE,))
    return {FRACTION: _folds(found[SHARE], of)}


def _rotation(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    found = rotation_scores(subject.features, subject.probe, clouds, of.labels, of.splits, of.up)
    return {f"turned {name}": _folds(scores, of) for name, scores in found.items()}


def _invariance(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    some = clouds[:: max(1, len(clouds) // _SHOWN)][:_SHOWN]
    found = {ERROR: invariance_error(subject.features, some)}
    if subject.vectors is not None:
        for kind in ("z", "SO3"):
            found[TURN_ERROR + kind] = equivariance_error(subject.vectors, some, kind=kind, up=of.up)
    return {name: Scores(tuple(errors.mean(1).tolist()), 1, 0.0, False, "") for name, errors in found.items()}


def _fine_tune(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    """Nothing of a subject without a network."""
    if (network := subject.network) is None:
        return {}
    classes = int(of.labels.max()) + 1
    found = fine_tune_scores(lambda seed: network(seed, classes), clouds, of.labels, of.splits, up=of.up)
    return {TUNED + ("" if name == AS_GIVEN else f" z/{name}"): _folds(scores, of) for name, scores in found.items()}


def _segmentation(subject: Subject, of: Exam, clouds: ndarray, features: ndarray) -> dict[str, Scores]:
    if subject.points is None or of.points is None:
        return {}
    found = segmentation_scores(subject.points, clouds, of.points, of.splits, subject.point_probe)
    return {name: _folds(scores, of) for name, scores in found.items()}


PROTOCOLS: dict[str, Protocol] = {
    "linear": _linear,
    "knn": _knn,
    "few-shot": _few_shot,
    "labels": _labels,
    "rotation": _rotation,
    "invariance": _invariance,
    SLOW: _fine_tune,
    SEGMENTATION: _segmentation,
}
QUICK = ("linear", "knn")
_OF_CLASSES = frozenset(("linear", "knn", "few-shot", "labels", "rotation", SLOW))  # of clouds
COST = "cost"  # no protocol, but asked for in the same list: it needs the network, not its features


def parse_protocols(text: str, clouds: bool = True, points: bool = False) -> tuple[str, ...]:
    """`linear,knn`, or `all`, as names in PROTOCOLS, and `cost`. `all` are those that the data can be asked, whether
    `clouds` have classes, and `points`, without fine-tuning. Raises BadInput for another."""
    known = (*PROTOCOLS, COST)
    names = (
        tuple(name for name in known if name != SLOW and _answered(name, clouds, points))
        if text == "all"
        else tuple(name.strip() for name in text.split(",") if name.strip())
    )
    unknown = [name for name in names if name not in known]
    if unknown or not set(names) & set(PROTOCOLS):
        given = ", ".join(unknown) or text
        raise BadInput(f"protocols: {given!r} will not do; write all, or some of {','.join(known)} and not cost alone")
    return names


def _answered(name: str, clouds: bool, points: bool) -> bool:
    return points if name == SEGMENTATION else clouds or name not in _OF_CLASSES


def require_protocols(names: Sequence[str], labels: ndarray | None, points: bool = False) -> None:
    """Raises BadInput now for what would only be found after hours of learning: scikit-learn is missing, an episode
    cannot be drawn, or the data have no classes of what is asked: `labels` int [n] of clouds, or None, and those of
    `points`."""
    scikit_learn("svm")
    wrong = [name for name in names if not _answered(name, labels is not None, points)]
    if SEGMENTATION in wrong:
        raise BadInput(
            "protocols: segmentation needs a class for each point; give ROOT/train of ShapeNetPart, a .npz with points "
            "and parts, or .las files, or leave it out"
        )
    if wrong:
        raise BadInput(
            f"protocols: the data have classes of points only, not for {','.join(wrong)}; write segmentation"
        )
    if "few-shot" in names and labels is not None:
        episodes(labels, 5, 10, EPISODES)


def judge(subject: Subject, of: Exam, protocols: Sequence[str] = QUICK) -> dict[str, Scores]:
    """Scores by what was asked, in the order of `protocols`."""
    clouds = of.clouds if subject.clouds is None else subject.clouds
    features = subject.features(clouds)
    found: dict[str, Scores] = {}
    for name in protocols:
        if name != COST:
            found |= PROTOCOLS[name](subject, of, clouds, features)
    return found


def rows(judged: Sequence[Judged], against: Mapping[str, Sequence[str]] | None = None) -> tuple[Row, ...]:
    """A row a subject and protocol, protocol by protocol; what "z/SO3" loses against "z/z"; and how far each subject
    that is no baseline is over others: `against` names them, by what was asked (`LINEAR`, `UPRIGHT`, `PART` ...)."""
    names = dict.fromkeys(name for each in judged for name in each.scores)
    found = [_row(each, name, each.scores[name]) for name in names for each in judged if name in each.scores]
    lost = [_lost(each) for each in judged if {UPRIGHT, ANYHOW} <= set(each.scores)]
    over = [
        row for protocol, rivals in (against or {}).items() for name in rivals for row in _over(judged, name, protocol)
    ]
    return (*found, *lost, *over)


def _folds(scores: ndarray, of: Exam) -> Scores:
    return Scores(tuple(scores.tolist()), of.seeds, of.ratio)


def _row(of: Judged, name: str, scores: Scores) -> Row:
    found = resampled_interval(scores.values, scores.ratio)
    told = found.value, found.low, found.high, found.n, scores.seeds
    return Row(of.name, name, *told, of.cost, of.baseline, scores.higher_is_better, scores.unit)


def _lost(of: Judged) -> Row:
    return _difference(of, "z/SO3 minus z/z", of.scores[ANYHOW], of.scores[UPRIGHT])


def _over(judged: Sequence[Judged], name: str, protocol: str) -> Iterator[Row]:
    """Nothing is told of a subject that was judged on other splits."""
    theirs = next((each.scores[protocol] for each in judged if each.name == name and protocol in each.scores), None)
    told = f"over {name}" if protocol == LINEAR else f"{protocol.removeprefix('turned ')} over {name}"
    for each in judged:
        ours = each.scores.get(protocol)
        if theirs and ours and not each.baseline and len(ours.values) == len(theirs.values):
            yield _difference(each, told, ours, theirs)


def _difference(of: Judged, name: str, x: Scores, y: Scores) -> Row:
    found = resampled_difference(x.values, y.values, x.ratio)
    return Row(of.name, name, found.value, found.low, found.high, found.n, x.seeds, Cost(), of.baseline, True, "pt")
