"""The linear probe: it finds what is there, finds nothing in noise, and chooses without looking at the test items."""

import numpy as np
import pytest

from shoestring.pretrain.evaluation import linear_svm
from shoestring.pretrain.evaluation.linear_svm import choose_c, svm_scores
from shoestring.pretrain.evaluation.splits import stratified_folds


def test_classes_apart_are_told_apart_and_noise_is_not(blobs, noise) -> None:
    assert svm_scores(*blobs, stratified_folds(blobs[1])).mean() > 95
    assert 30 < svm_scores(*noise, stratified_folds(noise[1])).mean() < 70


def test_test_items_have_no_part_in_what_is_fitted(blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither C nor the scale of the features changes when the test items do."""
    features, labels = blobs
    split = stratified_folds(labels)[0]
    seen: list[np.ndarray] = []
    fit = linear_svm._fit
    monkeypatch.setattr(linear_svm, "_fit", lambda x, y, c: (seen.append(x), fit(x, y, c))[1])
    svm_scores(features, labels, [split])
    ours, seen[:] = list(seen), []
    broken = features.copy()
    broken[split.test] = 1e6
    svm_scores(broken, labels, [split])
    assert len(ours) == len(seen) > 1
    assert all(np.array_equal(a, b) for a, b in zip(ours, seen, strict=True))


def test_c_is_the_most_regular_of_those_that_do_equally_well(blobs) -> None:
    features, labels = blobs
    assert choose_c(features * 10, labels, 0) == min(linear_svm._CHOICES)


def test_classes_of_one_item_do_not_break_it(blobs) -> None:
    features, labels = blobs
    few = np.array([0, 1, 2, 3, 4])
    assert choose_c(features[few], labels[few], 0) in linear_svm._CHOICES
