"""Equivariance error: how far features are from the symmetry they claim, as a number beside the accuracy.

Invariant features f must not change: ||f(Rx) - f(x)|| / ||f(x)||. Equivariant ones, made of vectors, must turn along:
||f(Rx) - R f(x)|| / ||f(x)||. Zero is perfect; random features of equal length have about sqrt(2).
"""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from shoestring.core.errors import BadInput
from shoestring.geometry.rotations import rotations


def invariance_error(
    features: Callable[[ndarray], ndarray], clouds: ndarray, turns: int = 4, kind: str = "SO3", seed: int = 0
) -> ndarray:
    """Relative change of `features(clouds [n, N, 3]) -> [n, d]` under random rotations about the origin, float64
    [turns, n]. Features are centred by their mean over the clouds first: what all clouds share tells nothing of them,
    and a large constant would hide any change. Raises BadInput for fewer than two clouds."""
    if len(clouds) < 2:
        raise BadInput("equivariance: features of one cloud cannot be centred; give two clouds or more")
    original = np.asarray(features(clouds), np.float64)
    centre = original.mean(0)
    found = [_relative(np.asarray(features(of)), original, centre) for _, of in _turned(clouds, turns, kind, seed)]
    return np.array(found)


def equivariance_error(
    features: Callable[[ndarray], ndarray],
    clouds: ndarray,
    turns: int = 4,
    kind: str = "SO3",
    seed: int = 0,
    up: int = 1,
) -> ndarray:
    """||f(Rx) - R f(x)|| / ||f(x)|| of `features(clouds [n, N, 3]) -> [n, ..., 3]`, vectors in the last axis; float64
    [turns, n]. `kind`, `up`: of the turns, as `geometry.rotations` has them. Raises BadInput when the last axis is not
    of three."""
    original = np.asarray(features(clouds), np.float64)
    if original.shape[-1] != 3:
        raise BadInput(f"equivariance: features {original.shape} are not vectors in space; their last axis must be 3")
    found = []
    for turn, of in _turned(clouds, turns, kind, seed, up):
        found.append(_relative(np.asarray(features(of)), original @ turn.T, np.zeros(1)))
    return np.array(found)


def _turned(clouds: ndarray, turns: int, kind: str, seed: int, up: int = 1) -> list[tuple[ndarray, ndarray]]:
    """(R, clouds turned by R): one rotation for all clouds, several times."""
    found = rotations(kind, turns, np.random.default_rng((seed, 4)), up)
    return [(turn, (np.asarray(clouds, np.float64) @ turn.T).astype(np.float32)) for turn in found]


def _relative(after: ndarray, before: ndarray, centre: ndarray) -> ndarray:
    count = len(before)
    change = np.linalg.norm((after - before).reshape(count, -1), axis=1)
    return change / np.maximum(np.linalg.norm((before - centre).reshape(count, -1), axis=1), 1e-12)
