"""Segmentation by a light head on frozen features of points: parts of shapes and classes of scenes.

Features of points are those of the encoder's tokens, interpolated from the nearest three, as in Point-MAE (arXiv
2203.06604, section 4.2), whose head, though, is trained together with the encoder. Clouds are never parted: a head is
trained on points of some and judged on all points of others, which is the split that every subject shares.

Parts are measured as ShapeNetPart is (Yi et al. 2016; PointNet, arXiv 1612.00593, section 5.2): within a shape the IoU
of each part of its category, a part that is neither there nor predicted counting as 1. Scenes by one confusion matrix.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy import ndarray
from torch import nn
from torch.nn import functional as F

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.splits import Split

PART, CATEGORY, SCENE = "part mIoU", "category mIoU", "scene mIoU"
TAUGHT = 20_000  # points that a head is trained on, about
_LEAST = 16  # of them in a cloud
_CHUNK = 32  # clouds whose features are held at once

Features = Callable[[ndarray], ndarray]
Head = Callable[[ndarray], ndarray]
"""Features [m, d] to logits [m, classes]."""
PointProbe = Callable[[ndarray, ndarray, int, int], Head]
"""Features [n, d] with classes int [n], 0 to below a number of them, and a seed, to a head."""


@dataclass(frozen=True, eq=False)
class PointLabels:
    """`labels` int [n, N]: the class of each point of n clouds, -1 where it has none. `categories` int [n] of shapes,
    among whose parts alone is chosen; None for scenes. Raises BadInput for shapes that do not fit, with fewer than two
    classes, and for a cloud without any."""

    labels: ndarray
    categories: ndarray | None = None

    def __post_init__(self) -> None:
        labels, categories = self.labels, self.categories
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise BadInput(
                f"segmentation: labels {labels.dtype} {list(labels.shape)} are not whole numbers [n, points]"
            )
        if categories is not None and categories.shape != labels.shape[:1]:
            raise BadInput(
                f"segmentation: categories {list(categories.shape)} are not one of each of {len(labels)} shapes"
            )
        if self.classes < 2 or len(np.unique(labels[labels >= 0])) < 2:
            raise BadInput("segmentation: the points are of fewer than two classes; give labelled data of more")
        if not (known := (labels >= 0).any(1)).all():
            raise BadInput(f"segmentation: no point of cloud {int(known.argmin())} has a class; leave it out")

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def parts(self) -> dict[int, ndarray]:
        """The parts that are seen in each category."""
        assert self.categories is not None, "scenes have none"
        of = {int(c): np.unique(self.labels[self.categories == c]) for c in np.unique(self.categories)}
        return {category: parts[parts >= 0] for category, parts in of.items()}


def linear_head(features: ndarray, labels: ndarray, classes: int, seed: int = 0) -> Head:
    """The head of `head_logits`, which needs no seed."""
    return _trained(features, labels, classes)


def segmentation_scores(
    features: Features, clouds: ndarray, of: PointLabels, splits: Sequence[Split], probe: PointProbe = linear_head
) -> dict[str, ndarray]:
    """By measure, per cent of each split, float64 [splits]. Of shapes PART, their mean IoU (instance mIoU), and with
    more than one category CATEGORY, the mean over categories (`part_miou`); of scenes SCENE, the mean over classes.

    `features`: clouds [n, N, 3] to [n, N, d]; they are taken twice and not kept, as those of ten thousand shapes fill
    the memory. `clouds` [n, N, 3], of which `splits` names numbers. About 20,000 points of the training clouds, equally
    many of each, train a head; all points of the others judge it."""
    heads = _heads(features, clouds, of, splits, probe)
    predicted = np.full((len(splits), *of.labels.shape), -1, np.int16)
    for start, found in _by_chunk(features, clouds):
        inside = np.arange(start, start + len(found))
        for number, (split, head) in enumerate(zip(splits, heads, strict=True)):
            if len(items := np.intersect1d(inside, split.test)):
                logits = head(found[items - start].reshape(-1, found.shape[2])).reshape(len(items), found.shape[1], -1)
                predicted[number, items] = [_decided(own, of, item) for own, item in zip(logits, items, strict=True)]
    scores = [_measured(own, of, split.test) for own, split in zip(predicted, splits, strict=True)]
    return {name: np.array([one[name] for one in scores]) for name in scores[0]}


def _heads(
    features: Features, clouds: ndarray, of: PointLabels, splits: Sequence[Split], probe: PointProbe
) -> list[Head]:
    """One for each split."""
    fewest = min(len(split.train) for split in splits)
    each = min(of.labels.shape[1], max(_LEAST, TAUGHT // fewest))
    random = np.random.default_rng(0)
    picked = np.stack([random.permutation(of.labels.shape[1])[:each] for _ in range(len(clouds))])
    parts = [
        np.take_along_axis(found, picked[start : start + len(found), :, None], 1)
        for start, found in _by_chunk(features, clouds)
    ]
    known, labels = np.concatenate(parts), np.take_along_axis(of.labels, picked, 1)
    heads = []
    for split in splits:
        x, y = known[split.train].reshape(-1, known.shape[2]), labels[split.train].reshape(-1)
        heads.append(probe(x[y >= 0], y[y >= 0], of.classes, split.seed))
    return heads


def _by_chunk(features: Features, clouds: ndarray) -> Iterator[tuple[int, ndarray]]:
    for start in range(0, len(clouds), _CHUNK):
        yield start, features(clouds[start : start + _CHUNK])


def _decided(logits: ndarray, of: PointLabels, item: int) -> ndarray:
    """int [N] of logits [N, classes]."""
    if of.categories is None:
        return logits.argmax(1)
    return choose_part(logits, of.parts[int(of.categories[item])])


def _measured(predicted: ndarray, of: PointLabels, items: ndarray) -> dict[str, float]:
    """`predicted` [n, N], of which `items` are judged."""
    if of.categories is None:
        iou = scene_iou(predicted[items].reshape(-1), of.labels[items].reshape(-1), of.classes)
        return {SCENE: float(np.nanmean(iou))}
    known = [of.labels[item] >= 0 for item in items]
    ours = [predicted[item][own] for item, own in zip(items, known, strict=True)]
    theirs = [of.labels[item][own] for item, own in zip(items, known, strict=True)]
    instance, category = part_miou(ours, theirs, of.categories[items].tolist(), of.parts)
    return {PART: instance, CATEGORY: category} if len(of.parts) > 1 else {PART: instance}


def head_logits(
    features: ndarray, labels: ndarray, test: ndarray, steps: int = 100, decay: float = 1e-4, balanced: bool = False
) -> ndarray:
    """Logits float32 [m, classes] for `test` features [m, d] of a linear head trained on `features` [n, d] with
    `labels` int [n], -1 to leave out. Features are standardised. The head is the minimum of a convex loss (softmax
    regression with weight decay, L-BFGS), so there is no seed and no learning rate. `balanced`: classes weigh the same,
    however many points they have."""
    kept = labels >= 0
    if not kept.any():
        raise BadInput("segmentation: no point has a label; a head cannot be trained")
    classes = int(labels.max()) + 1
    return _trained(features[kept], labels[kept], classes, steps, decay, balanced)(test)


def _trained(
    features: ndarray, labels: ndarray, classes: int, steps: int = 100, decay: float = 1e-4, balanced: bool = False
) -> Head:
    if not len(labels):
        raise BadInput("segmentation: no point of the clouds to train on has a label; label more of them")
    x, y = torch.from_numpy(features).float(), torch.from_numpy(labels).long()
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-6)
    x = (x - mean) / deviation
    weight = (len(y) / torch.bincount(y, minlength=classes).clamp_min(1) / classes) if balanced else None
    head = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(head(x), y, weight) + decay * head.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)

    @torch.no_grad()
    def of(test: ndarray) -> ndarray:
        return head((torch.from_numpy(test).float() - mean) / deviation).numpy()

    return of


def choose_part(logits: ndarray, parts: Sequence[int] | ndarray) -> ndarray:
    """The likeliest of the `parts` of a known category, int64 [N], from logits [N, all parts]."""
    own = np.asarray(parts)
    return own[logits[:, own].argmax(1)]


def part_miou(
    predicted: Sequence[ndarray],
    target: Sequence[ndarray],
    categories: Sequence[int],
    parts: Mapping[int, Sequence[int] | ndarray],
) -> tuple[float, float]:
    """(instance mIoU, category mIoU) in per cent. `predicted`, `target`: part labels [N] of each shape; `categories`:
    of each shape; `parts`: the part labels that a category has. The first is the mean over shapes, the second the mean
    over categories of the means over their shapes. Raises BadInput when counts differ."""
    if not len(predicted) == len(target) == len(categories) or not len(target):
        raise BadInput(
            f"segmentation: {len(predicted)} predictions, {len(target)} targets, {len(categories)} categories; "
            "give one of each for every shape"
        )
    shapes = np.array([_shape_iou(p, t, parts[c]) for p, t, c in zip(predicted, target, categories, strict=True)])
    of = np.asarray(categories)
    means = [shapes[of == category].mean() for category in np.unique(of)]
    return 100 * float(shapes.mean()), 100 * float(np.mean(means))


def scene_iou(predicted: ndarray, target: ndarray, classes: int) -> ndarray:
    """IoU in per cent of each class [classes], over all points [n] with a label (target >= 0); NaN for a class that is
    neither there nor predicted. Its `nanmean` is the mIoU of scenes."""
    kept = target >= 0
    confusion = np.bincount(target[kept] * classes + predicted[kept], minlength=classes**2).reshape(classes, classes)
    both = np.diag(confusion).astype(np.float64)
    either = confusion.sum(0) + confusion.sum(1) - both
    return 100 * np.divide(both, either, out=np.full(classes, np.nan), where=either > 0)


def _shape_iou(predicted: ndarray, target: ndarray, parts: Sequence[int] | ndarray) -> float:
    found = []
    for part in parts:
        either = ((predicted == part) | (target == part)).sum()
        found.append(((predicted == part) & (target == part)).sum() / either if either else 1.0)
    return float(np.mean(found))
