"""Made shapes: the same everywhere, all classes, hard enough to say something and easy enough to be learned."""

import numpy as np

from shoestring.deploy.preprocess import preprocess
from shoestring.pipeline.split import split
from shoestring.points.demo import CLASSES, demo_shapes

SPEC = {"kind": "points", "points": 256, "centre": "box", "scale": "sphere", "up": "y"}


def test_twelve_classes() -> None:
    dataset = demo_shapes()
    assert len(dataset) == 480
    assert dataset.names == tuple(CLASSES)
    assert len(set(dataset.group)) == 480
    points, target = dataset[50]
    assert (points.shape, points.dtype, target) == ((2048, 3), np.float32, 1)
    assert not points.flags.writeable
    np.testing.assert_array_equal(demo_shapes()[50][0], points)
    assert not np.allclose(dataset[51][0], points)
    assert len(demo_shapes(each=2, points=100)[23][0]) == 100


def features(points: np.ndarray) -> np.ndarray:
    """What no turn about y changes: how far from the axis, and how high, 8 x 8."""
    x = preprocess(SPEC, points)
    table = np.histogram2d(np.hypot(x[:, 0], x[:, 2]), x[:, 1], 8, ((0, 1), (-1, 1)))[0].ravel()
    return np.sqrt(table / table.sum())


def test_neighbours_tell_most_of_them() -> None:
    """1-nearest neighbour on histograms: far above chance (8 %), and not all."""
    train, test = split(demo_shapes(), 240, seed=0)
    known, asked = (np.array([features(points) for points, _ in part]) for part in (train, test))
    nearest = ((asked[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
    right = np.mean(np.array(train.targets)[nearest] == np.array(test.targets))
    assert 0.75 < right < 1
