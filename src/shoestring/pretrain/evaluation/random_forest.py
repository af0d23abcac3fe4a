"""A random forest (Breiman 2001): what hand-made shape features are worth without any network.

A self-supervised network that does not beat `shape_features` in this row has learned nothing of use here. Needs
scikit-learn.
"""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.splits import Split

TREES = 300


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
