"""Few-shot classification on frozen features, as the field reports it: 5 and 10 ways, 10 and 20 shots, 10 episodes,
mean and standard deviation over them (Sharma and Kaul 2020, arXiv 2009.14168)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy import ndarray

from shoestring.pretrain.evaluation.linear_svm import svm_scores
from shoestring.pretrain.evaluation.splits import Split, episodes

SETTINGS = ((5, 10), (5, 20), (10, 10), (10, 20))


@dataclass(frozen=True)
class FewShot:
    """`mean` and standard deviation `spread` of the accuracies in per cent of the episodes, whose `scores` [episodes]
    pair with those of other features."""

    ways: int
    shots: int
    mean: float
    spread: float
    scores: ndarray


def few_shot(
    features: ndarray,
    labels: ndarray,
    ways: int,
    shots: int,
    count: int = 10,
    probe: Callable[[ndarray, ndarray, Sequence[Split]], ndarray] = svm_scores,
) -> FewShot:
    """`count` episodes of `ways` classes and `shots` items each, by the linear SVM unless another `probe` is given.
    Raises BadInput when the classes are too few or too small."""
    scores = probe(features, labels, episodes(labels, ways, shots, count))
    return FewShot(ways, shots, float(scores.mean()), float(scores.std(ddof=1)) if count > 1 else 0.0, scores)
