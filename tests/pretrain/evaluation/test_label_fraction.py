"""Fewer labels: on the same test items, and never better than chance allows on noise."""

from shoestring.pretrain.evaluation.label_fraction import fraction_scores
from shoestring.pretrain.evaluation.nearest import nearest_scores
from shoestring.pretrain.evaluation.splits import Split, stratified_folds


def test_each_share_sees_its_part_of_the_labels(blobs) -> None:
    features, labels = blobs
    splits = stratified_folds(labels, folds=3, seeds=1)
    seen: list[list[Split]] = []

    def judge(of):
        seen.append(list(of))
        return nearest_scores(features, labels, of)

    found = fraction_scores(judge, labels, splits, shares=(0.1, 1.0))
    assert list(found) == [0.1, 1.0]
    assert [len(split.train) for split in seen[0]] == [4, 4, 4]
    assert [split.test.tolist() for split in seen[0]] == [split.test.tolist() for split in splits]
    assert [set(split.train) for split in seen[1]] == [set(split.train) for split in splits]
    assert found[1.0].shape == (3,) and found[1.0].mean() >= found[0.1].mean()
