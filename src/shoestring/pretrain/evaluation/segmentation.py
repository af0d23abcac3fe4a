"""Segmentation by a light head on frozen features of points: parts of shapes and classes of scenes.

Parts are measured as ShapeNetPart is (Yi et al. 2016; PointNet, arXiv 1612.00593, section 5.2): within a shape the IoU
of each part of its category, a part that is neither there nor predicted counting as 1. Scenes by one confusion matrix.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy import ndarray
from torch import nn
from torch.nn import functional as F

from shoestring.core.errors import BadInput


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
    x, y = torch.from_numpy(features[kept]).float(), torch.from_numpy(labels[kept]).long()
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-6)
    x = (x - mean) / deviation
    classes = int(y.max()) + 1
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
    with torch.no_grad():
        return head((torch.from_numpy(test).float() - mean) / deviation).numpy()


def choose_part(logits: ndarray, parts: Sequence[int]) -> ndarray:
    """The likeliest of the `parts` of a known category, int64 [N], from logits [N, all parts]."""
    own = np.asarray(parts)
    return own[logits[:, own].argmax(1)]


def part_miou(
    predicted: Sequence[ndarray],
    target: Sequence[ndarray],
    categories: Sequence[int],
    parts: Mapping[int, Sequence[int]],
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


def _shape_iou(predicted: ndarray, target: ndarray, parts: Sequence[int]) -> float:
    found = []
    for part in parts:
        either = ((predicted == part) | (target == part)).sum()
        found.append(((predicted == part) & (target == part)).sum() / either if either else 1.0)
    return float(np.mean(found))
