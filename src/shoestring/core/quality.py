"""Quality without labels: how far a network's outputs moved from the original network's, input by input.

Every score is in 0..1 (times 100: points) and 1 is the worst: an output that is not a number never passes silently.
"""

import math

import numpy as np

from shoestring.core.errors import BadInput

DIVERGENCE, RELATIVE_ERROR = "divergence", "relative error"
_SUM_TOLERANCE = 1e-3  # how far float16 probabilities of a thousand classes can sum from one


def distance(outputs: np.ndarray, original: np.ndarray) -> tuple[str, np.ndarray]:
    """The measure that fits the shape, and its value per input [n]: `divergence` for [n, classes] with two classes or
    more, `relative_error` for all else (dense maps, regressions, a single logit, whose softmax would always be 1)."""
    if original.ndim == 2 and original.shape[1] > 1:
        return DIVERGENCE, divergence(outputs, original)
    return RELATIVE_ERROR, relative_error(outputs, original)


def divergence(outputs: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Total-variation distance between the class probabilities of the subject and of the original, per input.

    `outputs`, `original`: [n, classes], logits; probabilities as they are where every row of `original` already is a
    distribution. Returns float64 [n] in 0..1: half the L1 distance (Levin, Peres, Wilmer, Markov Chains and Mixing
    Times, proposition 4.2), that is the probability that has to be moved to turn one prediction into the other. A row
    with NaN or +inf, or without any finite logit, in either array counts as 1. Raises BadInput on other shapes.
    """
    outputs, original = _pair(outputs, original, classes=True)
    probabilities = _normalise if _are_distributions(original) else _softmax
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        moved = np.abs(probabilities(outputs) - probabilities(original)).sum(axis=1) / 2
    return np.where(np.isfinite(moved), np.minimum(moved, 1.0), 1.0)


def relative_error(outputs: np.ndarray, original: np.ndarray) -> np.ndarray:
    """||outputs - original|| / ||original|| (Euclidean) per input, at most 1: an error as large as the signal.

    Both [n, ...] of any equal shape. Returns float64 [n]. NaN and inf in either array count as 1; against an all-zero
    original anything but zero does. Raises BadInput when the shapes differ.
    """
    outputs, original = (array.reshape(len(array), math.prod(array.shape[1:])) for array in _pair(outputs, original))
    scale = np.maximum(np.abs(original).max(axis=1, initial=0), np.finfo(np.float64).tiny)[:, None]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.linalg.norm(outputs / scale - original / scale, axis=1)
        relative = np.where(error == 0, 0.0, error / np.linalg.norm(original / scale, axis=1))
    return np.where(np.isfinite(relative), np.minimum(relative, 1.0), 1.0)


def agreement(outputs: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Whether both choose the same class, [n, classes] to bool [n]. Broken rows (see `top1`) agree with nothing."""
    outputs, original = _pair(outputs, original, classes=True)
    chosen = top1(outputs)
    return (chosen == top1(original)) & (chosen >= 0)


def top1(outputs: np.ndarray) -> np.ndarray:
    """The chosen class, [n, classes] to int64 [n]: the first of the largest values, -1 for a row with NaN or +inf or
    with -inf only (a plain argmax would return the place of the NaN)."""
    highest = outputs.max(axis=1)  # NaN when the row has one
    return np.where(np.isfinite(highest), outputs.argmax(axis=1), -1)


def _pair(outputs: np.ndarray, original: np.ndarray, classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64. Raises BadInput when the shapes differ, or are not [n, classes] where that is needed."""
    if outputs.shape != original.shape or not outputs.ndim:
        raise BadInput(f"quality: outputs {outputs.shape} against {original.shape} of the original; give equal shapes")
    if classes and (outputs.ndim != 2 or outputs.shape[1] < 2):
        raise BadInput(f"quality: outputs {outputs.shape} are not [inputs, classes >= 2]; use relative_error")
    return outputs.astype(np.float64), original.astype(np.float64)


def _are_distributions(outputs: np.ndarray) -> bool:
    """True for a network that ends in a softmax; a second softmax would hide nearly all that moved."""
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Rows to probabilities; a row with NaN or +inf, or with -inf only, comes out as NaN."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _normalise(probabilities: np.ndarray) -> np.ndarray:
    """Rows to sum one: quantised probabilities do not quite."""
    positive = np.maximum(probabilities, 0)
    return positive / positive.sum(axis=1, keepdims=True)
