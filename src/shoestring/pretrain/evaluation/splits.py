"""Splits of labelled items: repeated stratified k-fold, shares of the labels, few-shot episodes.

All are made of a seed and of the labels alone, so that every subject is judged on the same splits and its scores are
paired with those of the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput


@dataclass(frozen=True)
class Split:
    """Indices int64 of items to train on and to test on; they share none. `seed`: of whatever training draws."""

    train: ndarray
    test: ndarray
    seed: int


def stratified_folds(labels: ndarray, folds: int = 5, seeds: int = 3) -> list[Split]:
    """`folds` x `seeds` splits of items with `labels` int [n] in which every class is spread over the folds as evenly
    as its size allows. Labels below 0 mean unlabelled: such items are in no split. Raises BadInput when a class has
    fewer items than there are folds, naming it."""
    labels = np.asarray(labels)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if folds < 2 or seeds < 1:
        raise BadInput(f"splits: {folds} folds and {seeds} seeds split nothing; give 2 folds and 1 seed or more")
    if len(classes) < 2 or counts.min() < folds:
        few = ", ".join(f"class {c} has {n}" for c, n in zip(classes, counts, strict=True) if n < folds)
        raise BadInput(f"splits: {few or 'fewer than two classes'}; {folds} folds need {folds} of each of two or more")
    return [split for seed in range(seeds) for split in _folds(labels, classes, folds, seed)]


def _folds(labels: ndarray, classes: ndarray, folds: int, seed: int) -> Iterator[Split]:
    random = np.random.default_rng((seed, folds))
    fold = np.full(len(labels), -1)
    begin = 0
    for label in classes:
        items = random.permutation(np.flatnonzero(labels == label))
        # The next class goes on where this one ended, so that folds differ by one item at most.
        fold[items] = (begin + np.arange(len(items))) % folds
        begin += len(items)
    for test in range(folds):
        yield Split(np.flatnonzero((fold >= 0) & (fold != test)), np.flatnonzero(fold == test), seed)


def grouped_folds(groups: ndarray, folds: int = 5, seeds: int = 3) -> list[Split]:
    """`folds` x `seeds` splits of items of which those of one group, int [n], are never parted; each fold has as many
    groups as another, or one less. Raises BadInput when there are fewer groups than folds."""
    names = np.unique(groups)
    if folds < 2 or seeds < 1 or len(names) < folds:
        raise BadInput(f"splits: {len(names)} clouds or scans cannot be parted into {folds} folds; give more of them")
    found = []
    for seed in range(seeds):
        fold = np.random.default_rng((seed, folds)).permutation(len(names)) % folds
        own = fold[np.searchsorted(names, groups)]
        found += [Split(np.flatnonzero(own != test), np.flatnonzero(own == test), seed) for test in range(folds)]
    return found


def share_of_labels(split: Split, labels: ndarray, share: float) -> Split:
    """The same test items, and of each class the first `share` (0 to 1, at least one item) of a random order of its
    training items. Smaller shares are contained in larger ones of the same split."""
    if not 0 < share <= 1:
        raise BadInput(f"splits: a share of {share} of the labels cannot be had; give one above 0, at most 1")
    random = np.random.default_rng((split.seed, 1))
    order = random.permutation(split.train)
    kept = []
    for label in np.unique(labels[split.train]):
        items = order[labels[order] == label]
        kept.append(items[: max(1, round(share * len(items)))])
    return Split(np.sort(np.concatenate(kept)), split.test, split.seed)


def episodes(labels: ndarray, ways: int, shots: int, count: int = 10, queries: int = 20) -> list[Split]:
    """`count` few-shot episodes as in Sharma and Kaul 2020 (arXiv 2009.14168, section 4.2) and Point-BERT: `ways`
    classes drawn at random, `shots` items of each to train on and up to `queries` others of each to test on. Raises
    BadInput when fewer than `ways` classes have an item more than `shots`."""
    labels = np.asarray(labels)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    enough = classes[counts > shots]
    if ways < 2 or len(enough) < ways:
        raise BadInput(
            f"few-shot: {len(enough)} classes have more than {shots} items; {ways}-way episodes cannot be drawn; "
            "ask for fewer ways or shots"
        )
    return [_episode(labels, enough, ways, shots, queries, seed) for seed in range(count)]


def _episode(labels: ndarray, classes: ndarray, ways: int, shots: int, queries: int, seed: int) -> Split:
    random = np.random.default_rng((seed, ways, shots))
    items = [random.permutation(np.flatnonzero(labels == c)) for c in random.choice(classes, ways, replace=False)]
    train = np.concatenate([of[:shots] for of in items])
    test = np.concatenate([of[shots : shots + queries] for of in items])
    return Split(np.sort(train), np.sort(test), seed)
