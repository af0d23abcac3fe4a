"""Clouds to train on: what depends on seed, epoch and index alone, and what the network is shown."""

from typing import Any

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import preprocess
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.points.augment import Augmentation
from shoestring.points.dataset import ArrayCloud
from shoestring.points.training import TrainingClouds

SPEC = {"kind": "points", "points": 16, "centre": "mean", "scale": "sphere", "up": "y"}
CLOUDS = np.random.default_rng(0).normal(size=(10, 40, 3)).astype(np.float32)


def dataset(clouds: np.ndarray = CLOUDS) -> Dataset:
    return Dataset(tuple(Item(ArrayCloud(clouds, n), n, str(n)) for n in range(len(clouds))))


def by_index(data: TrainingClouds, *asked: Any) -> dict[int, bytes]:
    found = {int(y): x.tobytes() for xs, ys in data.epoch(*asked) for x, y in zip(xs, ys, strict=True)}
    assert found
    return found


def test_an_epoch() -> None:
    data = TrainingClouds(dataset(), SPEC, seed=3)
    assert len(data) == 10
    assert data.labelled
    batches = list(data.epoch(0, 5))
    assert [(xs.shape, xs.dtype, ys.dtype) for xs, ys in batches] == [((5, 16, 3), np.float32, np.int64)] * 2
    assert sorted(y for _, ys in batches for y in ys) == list(range(10))


def test_inputs_depend_on_seed_epoch_and_index_alone() -> None:
    one, other = TrainingClouds(dataset(), SPEC, seed=3), TrainingClouds(dataset(), SPEC, seed=3, cache=0)
    whole = by_index(one, 1, 10)
    assert by_index(other, 1, 2) == whole  # another batch, nothing kept
    late = by_index(TrainingClouds(dataset(), SPEC, seed=3), 1, 2, 3)
    assert len(late) == 4
    assert late.items() <= whole.items()
    shared = by_index(other, 1, 4, 0, 0, 2) | by_index(one, 1, 4, 0, 1, 2)
    assert shared.items() <= whole.items()
    assert not by_index(one, 2, 10).items() & whole.items()
    assert not by_index(TrainingClouds(dataset(), SPEC, seed=4), 1, 10).items() & whole.items()


def test_without_augmentation_other_points_each_epoch_placed_as_the_spec_says() -> None:
    data = TrainingClouds(dataset(), SPEC, how=None)
    for number in range(3):
        for xs, _ in data.epoch(number, 10):
            np.testing.assert_allclose(np.linalg.norm(xs, axis=2).max(axis=1), 1, atol=1e-6)
            np.testing.assert_allclose(xs.mean(axis=1), 0, atol=1e-6)
    assert not by_index(data, 0, 10).items() & by_index(data, 1, 10).items()
    plain = {**SPEC, "centre": None, "scale": None}
    for xs, ys in TrainingClouds(dataset(), plain, how=None).epoch(0, 10):
        for x, y in zip(xs, ys, strict=True):
            assert {tuple(row) for row in x.tolist()} <= {tuple(row) for row in CLOUDS[y].tolist()}


def test_large_clouds_are_thinned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.random.default_rng(0).normal(size=(3, 5000, 3)).astype(np.float32)
    opened = []
    monkeypatch.setattr(ArrayCloud, "open", lambda self: opened.append(self.index) or self.clouds[self.index])
    data = TrainingClouds(dataset(large), SPEC)
    for number in range(3):
        list(data.epoch(number, 3))
    assert sorted(opened) == [0, 1, 2]


def test_network_inputs_stay_as_they_are() -> None:
    spec = {"kind": "tensor", "shape": [40, 3]}
    for xs, ys in TrainingClouds(dataset(), spec).epoch(0, 10):
        np.testing.assert_array_equal(xs, CLOUDS[ys])
        np.testing.assert_array_equal(xs[0], preprocess(spec, CLOUDS[ys[0]]))


def test_augmentation_can_be_given() -> None:
    still = TrainingClouds(dataset(), SPEC, how=Augmentation(turn=False, tilt=0, stretch=0, shift=0, jitter=0, drop=0))
    plain = TrainingClouds(dataset(), SPEC, how=None)
    for (a, _), (b, _) in zip(still.epoch(0, 10), plain.epoch(0, 10), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_refusals() -> None:
    with pytest.raises(BadInput, match="no point cloud"):
        TrainingClouds(Dataset(()), SPEC)
    with pytest.raises(BadInput, match="kind 'sound' is unknown"):
        TrainingClouds(dataset(), {"kind": "sound"})
