"""Splits: what is tested is never trained on, classes are spread evenly, and a seed decides everything."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pretrain.evaluation.splits import episodes, grouped_folds, share_of_labels, stratified_folds

LABELS = np.repeat([0, 1, 2, -1], [11, 7, 22, 9])


def test_each_labelled_item_is_tested_once_a_seed() -> None:
    splits = stratified_folds(LABELS, folds=5, seeds=3)
    assert len(splits) == 15
    for seed in range(3):
        tested = np.concatenate([split.test for split in splits if split.seed == seed])
        assert sorted(tested) == np.flatnonzero(LABELS >= 0).tolist()
    assert not any(np.intersect1d(split.train, split.test).size for split in splits)
    assert not np.array_equal(splits[0].test, splits[5].test)


def test_folds_hold_as_much_of_a_class_as_its_size_allows() -> None:
    splits = stratified_folds(LABELS, folds=5, seeds=2)
    for label, count in ((0, 11), (1, 7), (2, 22)):
        held = [(LABELS[split.test] == label).sum() for split in splits]
        assert set(held) <= {count // 5, -(-count // 5)}
    assert len({len(split.test) for split in splits}) == 1


def test_the_same_seed_gives_the_same_splits() -> None:
    for one, other in zip(stratified_folds(LABELS), stratified_folds(LABELS), strict=True):
        assert np.array_equal(one.test, other.test)


def test_a_class_too_small_for_the_folds_is_named() -> None:
    with pytest.raises(BadInput, match="class 1 has 7; 8 folds"):
        stratified_folds(LABELS, folds=8)


def test_smaller_shares_are_part_of_larger_ones_and_keep_every_class() -> None:
    split = stratified_folds(LABELS)[3]
    tenth, half, all_ = (share_of_labels(split, LABELS, share) for share in (0.1, 0.5, 1.0))
    assert set(tenth.train) <= set(half.train) <= set(all_.train) == set(split.train)
    assert set(LABELS[tenth.train]) == {0, 1, 2}
    assert np.array_equal(tenth.test, split.test)
    with pytest.raises(BadInput, match="share of 0"):
        share_of_labels(split, LABELS, 0)


def test_an_episode_has_its_ways_and_shots() -> None:
    for split in episodes(LABELS, ways=2, shots=6, count=10, queries=4):
        _, shots = np.unique(LABELS[split.train], return_counts=True)
        _, queries = np.unique(LABELS[split.test], return_counts=True)
        assert shots.tolist() == [6, 6]
        assert set(queries) <= {1, 4}
        assert not np.intersect1d(split.train, split.test).size
        assert set(LABELS[split.train]) == set(LABELS[split.test])


def test_episodes_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(BadInput, match="2 classes have more than 10 items"):
        episodes(LABELS, ways=3, shots=10)


def test_groups_are_never_parted() -> None:
    groups = np.repeat([4, 9, 2, 7, 30, 31, 32], [3, 1, 5, 2, 2, 2, 2])
    splits = grouped_folds(groups, folds=3, seeds=2)
    assert [split.seed for split in splits] == [0, 0, 0, 1, 1, 1]
    for split in splits:
        assert not np.intersect1d(groups[split.train], groups[split.test]).size
        assert sorted([*split.train, *split.test]) == list(range(17))
        assert len(np.unique(groups[split.test])) in (2, 3)
    assert sorted(np.concatenate([split.test for split in splits[:3]])) == list(range(17))
    with pytest.raises(BadInput, match="7 clouds or scans cannot be parted into 8 folds"):
        grouped_folds(groups, folds=8)
