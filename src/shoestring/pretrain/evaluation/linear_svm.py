"""Linear SVM on frozen features: the field's probe of self-supervised point networks (arXiv 2110.03288, section 4.1).

`C` is chosen by cross-validation inside the training split; the usual practice of choosing it on the test split makes
a probe look better than it is. One machine for each two classes, as in the field's code (scikit-learn's SVC): on 200
items it is twenty times faster than one against the rest, and converges at every C. Needs the extra `points`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.splits import Split

_CHOICES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_INNER_FOLDS = 3


def svm_scores(features: ndarray, labels: ndarray, splits: Sequence[Split]) -> ndarray:
    """Accuracy in per cent of each split, float64 [splits]. `features`: float [n, d]; `labels`: int [n]; features are
    standardised by the training items. Raises BadInput when scikit-learn is not installed."""
    return np.array([_score(features, labels, split) for split in splits])


def _score(features: ndarray, labels: ndarray, split: Split) -> float:
    x, y = features[split.train].astype(np.float64), labels[split.train]
    model = _fit(x, y, choose_c(x, y, split.seed))
    return 100 * float(model.score(features[split.test].astype(np.float64), labels[split.test]))


def choose_c(x: ndarray, y: ndarray, seed: int) -> float:
    """The C that does best in 3 folds of the training items `x` [n, d], `y` [n]; of equal ones the smallest, which is
    the most regular. Classes of fewer than 3 items are in some of the folds only."""
    random = np.random.default_rng((seed, 2))
    fold = np.empty(len(y), np.int64)
    for label in np.unique(y):
        items = random.permutation(np.flatnonzero(y == label))
        fold[items] = np.arange(len(items)) % _INNER_FOLDS
    right = dict.fromkeys(_CHOICES, 0)
    for held in range(_INNER_FOLDS):
        train, test = fold != held, fold == held
        if not test.any() or len(np.unique(y[train])) < 2:
            continue
        for c in _CHOICES:
            right[c] += int((_fit(x[train], y[train], c).predict(x[test]) == y[test]).sum())
    return max(_CHOICES, key=lambda c: right[c])


def _fit(x: ndarray, y: ndarray, c: float) -> Any:
    pipeline, preprocessing, svm = (scikit_learn(name) for name in ("pipeline", "preprocessing", "svm"))
    return pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC(C=c, kernel="linear")).fit(x, y)
