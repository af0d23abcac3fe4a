"""Label fractions: what a probe is worth when only a share of the training items has a label."""

from collections.abc import Callable, Sequence

from numpy import ndarray

from shoestring.pretrain.evaluation.splits import Split, share_of_labels

SHARES = (0.1, 0.25, 0.5, 1.0)


def fraction_scores(
    judge: Callable[[Sequence[Split]], ndarray],
    labels: ndarray,
    splits: Sequence[Split],
    shares: Sequence[float] = SHARES,
) -> dict[float, ndarray]:
    """Scores [splits] of `judge(splits)` for each share of the labels, on the same test items. Smaller shares are part
    of larger ones. A `judge` is any protocol with its features or network given:
    `lambda splits: svm_scores(features, labels, splits)`."""
    return {share: judge([share_of_labels(split, labels, share) for split in splits]) for share in shares}
