"""Nearest neighbours against loops, and with nothing of the test items in them."""

import math

import numpy as np

from shoestring.pretrain.evaluation.nearest import nearest_scores, vote
from shoestring.pretrain.evaluation.splits import stratified_folds


def test_votes_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    similarity, labels = random.uniform(-1, 1, (8, 20)), random.integers(0, 3, 20)
    for row, found in zip(similarity, vote(similarity, labels, 5), strict=True):
        votes = dict.fromkeys(range(3), 0.0)
        for i in sorted(range(20), key=lambda i: -row[i])[:5]:
            votes[int(labels[i])] += math.exp((row[i] - 1) / 0.07)
        assert votes[int(found)] == max(votes.values())


def test_more_neighbours_than_items_are_all_items() -> None:
    assert vote(np.array([[1.0, 0.9, 0.9]]), np.array([0, 1, 1]), 50).tolist() == [0]


def test_classes_apart_are_told_apart_and_noise_is_not(blobs, noise) -> None:
    assert nearest_scores(*blobs, stratified_folds(blobs[1])).mean() > 95
    assert 30 < nearest_scores(*noise, stratified_folds(noise[1])).mean() < 70


def test_units_and_constant_features_do_not_matter(blobs) -> None:
    features, labels = blobs
    splits = stratified_folds(labels, seeds=1)
    scaled = np.concatenate([features * [1, 1e3, 1, 1e-3, 1, 1], np.full((60, 1), 7.0)], axis=1)
    assert np.array_equal(nearest_scores(features, labels, splits), nearest_scores(scaled, labels, splits))
