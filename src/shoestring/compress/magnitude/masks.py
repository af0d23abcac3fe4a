"""Which blocks stay: those with the largest norms, of one layer or of several that share a threshold."""

from collections.abc import Iterable, Sequence

import numpy as np

from shoestring.compress.method import Weight
from shoestring.core.pattern import BlockPattern


def masks(weights: Sequence[Weight], pattern: BlockPattern, percent: float, most: float = 100) -> list[np.ndarray]:
    """For each weight, what stays: bool in its shape. Of all together the blocks with the smallest norms go, as many as
    hold no more than `percent` of the weights, and no more than `most` per cent of one weight. Of equal norms the
    first goes."""
    norms = [pattern.norms(weight.values, weight.groups) for weight in weights]
    sizes = [pattern.sizes(weight.values.shape, weight.groups) for weight in weights]
    allowed = [smallest(norm, size, most) for norm, size in zip(norms, sizes, strict=True)]
    ranked = np.where(flat(allowed), flat(norms), np.inf)
    gone = smallest(ranked, flat(sizes), percent) & flat(allowed)
    ends = np.cumsum([norm.size for norm in norms])[:-1]
    return [
        pattern.expand(~part.reshape(norm.shape), weight.values.shape, weight.groups)
        for part, norm, weight in zip(np.split(gone, ends), norms, weights, strict=True)
    ]


def smallest(norms: np.ndarray, sizes: np.ndarray, percent: float) -> np.ndarray:
    """Bool in the shape of `norms`: the blocks with the smallest ones whose `sizes` add up to `percent` or less."""
    order = np.argsort(norms, axis=None, kind="stable")
    chosen = np.zeros(norms.size, bool)
    chosen[order] = np.cumsum(sizes.ravel()[order]) <= percent * sizes.sum() / 100
    return chosen.reshape(norms.shape)


def flat(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])
