"""k nearest neighbours on frozen features: the probe without training (Wu et al. 2018, arXiv 1805.01978, section 3.4).

Votes are weighted by exp(cosine / 0.07), as in DINO. `k` is chosen by leaving out one training item at a time; the test
items have no part in it.
"""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from shoestring.pretrain.evaluation.splits import Split

_TEMPERATURE = 0.07
_CHOICES = (1, 3, 5, 10, 20)


def nearest_scores(features: ndarray, labels: ndarray, splits: Sequence[Split]) -> ndarray:
    """Accuracy in per cent of each split, float64 [splits]. `features`: float [n, d]; `labels`: int [n]."""
    scores = []
    for split in splits:
        train, test = _standard(features, split)
        own = labels[split.train]
        k = _choose(train, own)
        predicted = vote(test @ train.T, own, k)
        scores.append(100 * float((predicted == labels[split.test]).mean()))
    return np.array(scores)


def vote(similarity: ndarray, labels: ndarray, k: int) -> ndarray:
    """The class with the largest sum of exp(similarity / 0.07) among the `k` most similar: `similarity` [m, n] to
    items with `labels` [n]; int [m]. Equal sums: the lower class."""
    k = min(k, similarity.shape[1])
    near = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    weight = np.exp((np.take_along_axis(similarity, near, 1) - 1) / _TEMPERATURE)
    classes = np.unique(labels)
    votes = np.stack([(weight * (labels[near] == c)).sum(1) for c in classes], axis=1)
    return classes[votes.argmax(1)]


def _choose(train: ndarray, labels: ndarray) -> int:
    """The `k` with which the training items recognise one another best; of equal ones the smallest."""
    similarity = train @ train.T
    np.fill_diagonal(similarity, -np.inf)
    usable = [k for k in _CHOICES if k < len(train)] or [1]
    return max(usable, key=lambda k: float((vote(similarity, labels, k) == labels).mean()))


def _standard(features: ndarray, split: Split) -> tuple[ndarray, ndarray]:
    """Training and test features, standardised by the training items' mean and deviation, of length one."""
    train = features[split.train].astype(np.float64)
    mean, deviation = train.mean(0), train.std(0)
    deviation[deviation == 0] = 1
    return tuple(_unit((features[of] - mean) / deviation) for of in (split.train, split.test))  # type: ignore[return-value]  # two


def _unit(rows: ndarray) -> ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
