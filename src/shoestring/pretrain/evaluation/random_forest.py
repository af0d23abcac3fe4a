"""A random forest (Breiman 2001): what hand-made shape features are worth without any network.

A self-supervised network that does not beat `shape_features` in this row has learned nothing of use here. Needs
scikit-learn.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.splits import Split

TREES = 300
_POINT_TREES, _LEAF = 50, 5  # of points, of which there are many


def forest_scores(features: ndarray, labels: ndarray, splits: Sequence[Split], trees: int = TREES) -> ndarray:
    """Accuracy in per cent of each split, float64 [splits]; nothing is tuned. `features`: [n, d], `labels`: int [n].
    Raises BadInput when scikit-learn is not installed."""
    forest = scikit_learn("ensemble").RandomForestClassifier
    scores = []
    for split in splits:
        model = forest(trees, random_state=split.seed, n_jobs=1)
        model.fit(features[split.train], labels[split.train])
        scores.append(100 * float(model.score(features[split.test], labels[split.test])))
    return np.array(scores)


def forest_head(features: ndarray, labels: ndarray, classes: int, seed: int = 0) -> Callable[[ndarray], ndarray]:
    """A forest of 50 trees for points, trained on `features` [n, d] and `labels` int [n], 0 to below `classes`:
    features [m, d] to probabilities [m, classes], 0 for a class that was not there. Raises BadInput when scikit-learn
    is not installed, and without labels."""
    if not len(labels):
        raise BadInput("segmentation: no point of the clouds to train on has a label; label more of them")
    forest = scikit_learn("ensemble").RandomForestClassifier
    model = forest(_POINT_TREES, min_samples_leaf=_LEAF, random_state=seed, n_jobs=1).fit(features, labels)

    def of(test: ndarray) -> ndarray:
        found = np.zeros((len(test), classes))
        found[:, model.classes_] = model.predict_proba(test)
        return found

    return of
