"""Clouds to learn from, as training asks for them: some of the points of each, other ones in every epoch."""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput

LEAST_CLOUDS = 2  # one cloud cannot be told from others


class Clouds:
    """Batches (`train.data`) of clouds [n, N, 3] of any real type, each about its mean and in the unit sphere.

    An input is `points` of a cloud's points, drawn by (seed, epoch, cloud); the label is the number of the cloud, which
    tells an objective what belongs to it. Raises BadInput for another shape, values that are not finite, clouds without
    extent, and more points than there are.
    """

    labelled = False

    def __init__(self, clouds: ndarray, points: int = 1024, seed: int = 0):
        _require(clouds, points)
        self.clouds, self.points, self.seed = in_unit_sphere(clouds), points, seed

    def __len__(self) -> int:
        return len(self.clouds)

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[ndarray, ndarray]]:
        order = np.random.default_rng((self.seed, number)).permutation(len(self))
        for index in range(start, max(1, len(self) // batch)):
            chosen = order[index * batch : (index + 1) * batch]
            chosen = chosen[: len(chosen) // world * world][rank::world]  # all shares are of one size
            yield np.stack([self._some(cloud, number) for cloud in chosen]), chosen

    def _some(self, cloud: int, number: int) -> ndarray:
        rng = np.random.default_rng((self.seed, number, int(cloud)))
        return self.clouds[cloud][rng.permutation(self.clouds.shape[1])[: self.points]]


def in_unit_sphere(clouds: ndarray) -> ndarray:
    """float32 [n, N, 3]: each cloud about its mean, its farthest point at distance 1. Raises BadInput for one without
    extent."""
    points = np.asarray(clouds, np.float32)
    points = points - points.mean(1, keepdims=True)
    size = np.sqrt(np.square(points).sum(2).max(1))
    if not size.all():
        raise BadInput(f"data: all points of cloud {int(size.argmin())} are one; leave it out")
    return points / size[:, None, None]


def digest(clouds: ndarray) -> str:
    """SHA-256 of type, shape and values: what says that two runs learned from the same."""
    told = hashlib.sha256(f"{clouds.dtype.str} {clouds.shape}".encode())
    told.update(np.ascontiguousarray(clouds).data)
    return told.hexdigest()


def _require(clouds: ndarray, points: int) -> None:
    if clouds.ndim != 3 or clouds.shape[2] != 3:
        raise BadInput(f"data: an array {list(clouds.shape)} is no set of clouds; give [clouds, points, 3]")
    if len(clouds) < LEAST_CLOUDS:
        raise BadInput(f"data: {len(clouds)} clouds are too few to learn from; give {LEAST_CLOUDS} or more")
    if not np.isfinite(clouds).all():
        bad = int(np.flatnonzero(~np.isfinite(clouds).all((1, 2)))[0])
        raise BadInput(f"data: cloud {bad} has coordinates that are not finite; leave it out")
    if not 1 <= points <= clouds.shape[1]:
        raise BadInput(f"points: {points} of {clouds.shape[1]} cannot be drawn; give 1 to {clouds.shape[1]}")
