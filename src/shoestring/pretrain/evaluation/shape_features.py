"""Hand-made features of shapes: the baseline every learned feature is set beside.

`upright` ones know which way is up and are not for rotated data; `invariant` ones are the same under any rotation.
Both are of the metric size of the cloud as it is given: clouds scaled to the unit sphere lose their size here too.
"""

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput

_PAIRS, _BINS = 4096, 16


def shape_features(clouds: ndarray, invariant: bool = False, seed: int = 0) -> ndarray:
    """float64 [n, d] of `clouds` float [n, N, 3].

    Invariant: eigenvalue features (linearity, planarity, scattering, their scale; Weinmann et al. 2015), a histogram of
    distances between random pairs (D2, Osada et al. 2002, over the mean distance) with their mean, and a histogram of
    distances to the centroid. Otherwise also: sides of the axis-parallel box and their ratios, shares of points in 8
    layers along y (up) and the spread within each. Raises BadInput on other shapes or values that are not finite."""
    clouds = np.asarray(clouds, np.float64)
    if clouds.ndim != 3 or clouds.shape[2] != 3 or clouds.shape[1] < 4:
        raise BadInput(f"shape features: clouds {clouds.shape} are not [n, N >= 4, 3]; give coordinates only")
    if not np.isfinite(clouds).all():
        raise BadInput("shape features: a coordinate is not finite; leave that cloud out")
    centred = clouds - clouds.mean(1, keepdims=True)
    parts = [_eigenvalues(centred), _d2(centred, seed), _radii(centred)]
    if not invariant:
        parts += [_box(clouds), _layers(clouds)]
    return np.concatenate(parts, axis=1)


def _eigenvalues(centred: ndarray) -> ndarray:
    covariance = np.einsum("nki,nkj->nij", centred, centred) / centred.shape[1]
    third, second, first = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0)).T
    largest = np.maximum(first, 1e-12)
    return np.stack([(first - second) / largest, (second - third) / largest, third / largest, np.log(largest)], axis=1)


def _d2(centred: ndarray, seed: int) -> ndarray:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, centred.shape[1], (2, _PAIRS))
    return _distribution(np.linalg.norm(centred[:, a] - centred[:, b], axis=2))


def _radii(centred: ndarray) -> ndarray:
    return _distribution(np.linalg.norm(centred, axis=2))


def _distribution(lengths: ndarray) -> ndarray:
    """Shares of `lengths` [n, m] in bins of their own mean, 0 to 3, and the logarithm of that mean."""
    mean = np.maximum(lengths.mean(1, keepdims=True), 1e-12)
    place = np.minimum((lengths / mean * (_BINS / 3)).astype(int), _BINS - 1)
    shares = np.stack([(place == i).mean(1) for i in range(_BINS)], axis=1)
    return np.concatenate([shares, np.log(mean)], axis=1)


def _box(clouds: ndarray) -> ndarray:
    sides = np.maximum(np.ptp(clouds, axis=1), 1e-12)
    x, y, z = sides.T
    flat = np.minimum(x, z) / np.maximum(x, z)
    return np.stack([*sides.T, y / np.sqrt(x * z), flat, np.log(x * y * z)], axis=1)


def _layers(clouds: ndarray, count: int = 8) -> ndarray:
    low = clouds.min(1, keepdims=True)
    sides = np.maximum(np.ptp(clouds, axis=1, keepdims=True), 1e-12)
    inside = (clouds - low) / sides
    layer = np.minimum((inside[:, :, 1] * count).astype(int), count - 1)
    found = []
    for index in range(count):
        here = (layer == index)[:, :, None]
        points = np.maximum(here.sum(1), 1)
        mean = (inside * here).sum(1) / points
        spread = np.sqrt(((inside - mean[:, None]) ** 2 * here).sum(1) / points)
        found += [here.mean(1), spread[:, [0, 2]]]
    return np.concatenate(found, axis=1)
