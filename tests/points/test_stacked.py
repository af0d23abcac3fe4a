"""Clouds of many sizes as one array: points of their own, none of them left out as a region, labels beside them."""

import numpy as np
import pytest

from shoestring.core.errors import BadInput
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.points.dataset import ArrayCloud
from shoestring.points.stacked import distinct, stacked


def items(sizes: tuple[int, ...], targets: tuple[int | None, ...]) -> Dataset:
    rng = np.random.default_rng(0)
    clouds = [rng.standard_normal((1, n, 3)).astype(np.float32) + 100 for n in sizes]
    pairs = zip(clouds, targets, strict=True)
    return Dataset(tuple(Item(ArrayCloud(cloud, 0), target, str(k)) for k, (cloud, target) in enumerate(pairs)))


def test_clouds_of_many_sizes_become_one_array() -> None:
    given = items((40, 20, 10), (1, None, 0))
    clouds, labels = stacked(given, 20)
    assert clouds.dtype == np.float32
    assert clouds.shape == (3, 20, 3)
    assert labels.tolist() == [1, -1, 0]
    assert labels.dtype == np.int64
    for own, (raw, _), copies in zip(clouds, given, (1, 1, 2), strict=True):
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-5)
        kinds, counts = np.unique(own, axis=0, return_counts=True)
        assert counts.tolist() == [copies] * (20 // copies)
        # Ours are points of the file, moved: some shift brings every one of them onto one of its.
        shifts = raw - kinds[0]
        apart = np.linalg.norm(kinds[None, :, None] + shifts[:, None, None] - raw, axis=-1)
        assert (apart.min(2) < 1e-4).all(1).any()


def test_no_clouds_are_told() -> None:
    with pytest.raises(BadInput, match="holds no point cloud"):
        stacked(Dataset(()), 8)


def test_copies_and_single_places_are_left_out() -> None:
    clouds = np.random.default_rng(0).standard_normal((6, 9, 3)).astype(np.float32)
    clouds[3], clouds[5], clouds[4] = clouds[1], clouds[1], clouds[4, 0]
    with pytest.warns(UserWarning, match="left out 3 of 6 clouds, 1 without extent and 2 that are there already"):
        assert distinct(clouds).tolist() == [0, 1, 2]
    with pytest.warns(UserWarning, match="left out 2 of 4 clouds, 2 that are there already"):
        assert distinct(clouds[[5, 0, 3, 1]]).tolist() == [0, 1]
    assert distinct(clouds[:3]).tolist() == [0, 1, 2]
