"""Features with a truth, and clouds of three kinds."""

import numpy as np
import pytest


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four classes of 15 items around far-apart middles: features [60, 6], labels [60]."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 4
    return random.standard_normal((4, 6))[labels] * 6 + random.standard_normal((60, 6)), labels


@pytest.fixture
def noise() -> tuple[np.ndarray, np.ndarray]:
    """As many features as items, and labels that have nothing to do with them."""
    random = np.random.default_rng(1)
    return random.standard_normal((60, 60)), random.permutation(np.arange(60) % 2)


@pytest.fixture
def shapes() -> tuple[np.ndarray, np.ndarray]:
    """Standing rods, lying discs and balls: clouds [36, 64, 3] (y up), labels [36]."""
    random = np.random.default_rng(2)
    labels = np.arange(36) % 3
    stretch = np.array([[0.2, 2, 0.2], [1.5, 0.1, 1.5], [1, 1, 1]])[labels]
    return (random.standard_normal((36, 64, 3)) * stretch[:, None]).astype(np.float32), labels
