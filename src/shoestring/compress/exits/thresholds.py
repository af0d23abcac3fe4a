"""When an exit's answer is final: temperatures that make confidences honest, thresholds that save most time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TEMPERATURES = (0.05, 20.0)
_BISECTIONS = 60
_CELLS = 4e5  # of the search
_MOST = 256  # thresholds of one exit that are tried


@dataclass(frozen=True)
class Thresholds:
    """`values`: of each exit, None where it is never left there. On the inputs they were chosen on: `shares` that leave
    at each exit and, last, go all the way; `ms`, the mean time; `lost`, points of `lost` as given."""

    values: tuple[float | None, ...]
    shares: tuple[float, ...]
    ms: float
    lost: float


def temperature(outputs: np.ndarray, answers: np.ndarray) -> float:
    """The T, within TEMPERATURES, for which softmax(outputs / T) gives `answers` the largest likelihood (Guo et al.
    2017, arXiv 1706.04599, section 4.2). outputs [n, classes], answers int [n]. The log-likelihood is concave in 1 / T,
    so that its slope changes sign once."""
    scores = outputs.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(scores)), answers]
    low, high = (np.log(1 / end) for end in reversed(TEMPERATURES))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        weights = np.exp(np.exp(middle) * scores)
        slope = (right - (weights * scores).sum(1) / weights.sum(1)).mean()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def confidences(outputs: np.ndarray, temperature: float) -> np.ndarray:
    """float64 [n]: the largest of softmax(outputs [n, classes] / temperature)."""
    scores = outputs.astype(np.float64) / temperature
    return np.asarray(1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(1))


def choose(sure: np.ndarray, lost: np.ndarray, ms: Sequence[float], most: float) -> Thresholds:
    """The thresholds with the least mean time that lose at most `most` points, their mean and its standard error added:
    of thousands of combinations the best would else be the luckiest. `sure` [exits, n]: the
    confidence of each exit in each input; `lost` [exits, n]: what is lost where that input leaves there, 1 being all of
    it (-1: gained); `ms` [exits + 1]: from the input to each exit, and to the end. An input leaves at the first exit
    whose confidence is at least its threshold (MSDNet, arXiv 1703.09844, section 5).

    Exact over a grid of thresholds: inputs are counted by the cells of the grid that their confidences fall into, and
    sums over cells give every combination at once."""
    exits, n = sure.shape
    grids = [_grid(row, min(_MOST, int(_CELLS ** (1 / exits)) - 1)) for row in sure]
    cells = [np.searchsorted(grid, row, side="right") for grid, row in zip(grids, sure, strict=True)]
    sizes = tuple(len(grid) + 1 for grid in grids)
    left, points, squares = [], np.zeros(sizes), np.zeros(sizes)
    for index in range(exits):
        where, rest = tuple(cells[: index + 1]), (1,) * (exits - index - 1)
        counts, sums, squared = (
            (found := _left(where, sizes[: index + 1], weights)).reshape(*found.shape, *rest)
            for weights in (np.ones(n), lost[index], lost[index] ** 2)
        )
        left.append(counts)
        points, squares = points + sums / n, squares + squared / n
    spent = sum(((ms[index] - ms[-1]) * counts for index, counts in enumerate(left)), np.zeros(sizes)) / n + ms[-1]
    error = np.sqrt(np.maximum(squares - points**2, 0) / n)
    allowed = 100 * (points + error) <= most + 1e-9
    allowed[tuple(size - 1 for size in sizes)] = True  # to leave nowhere is always allowed
    best = np.lexsort((points.ravel(), np.where(allowed, spent, np.inf).ravel()))[0]
    at = np.unravel_index(best, sizes)
    shares = [float(np.broadcast_to(counts, sizes)[at]) / n for counts in left]
    values = tuple(float(grid[i]) if i < len(grid) else None for grid, i in zip(grids, at, strict=True))
    return Thresholds(values, (*shares, 1 - sum(shares)), float(spent[at]), 100 * float(points[at]))


def _left(cells: tuple[np.ndarray, ...], sizes: tuple[int, ...], weights: np.ndarray) -> np.ndarray:
    """[thresholds of each exit so far]: the summed weights of the inputs that leave at the last of these exits: in
    cells up to the threshold of each exit before it, and beyond its own."""
    flat = np.ravel_multi_index(cells, sizes)
    found = np.bincount(flat, weights, minlength=int(np.prod(sizes))).reshape(sizes)
    for axis in range(len(sizes) - 1):
        found = found.cumsum(axis)
    upto = found.cumsum(-1)
    result: np.ndarray = upto[..., -1:] - upto
    return result


def _grid(sure: np.ndarray, most: int) -> np.ndarray:
    """Up to `most` thresholds, ascending from 0: halfway between confidences, so that rounding decides nothing."""
    values = np.unique(sure)
    between = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    if len(between) <= most:
        return between
    # As many inputs between any two, not as many different confidences.
    ranked = np.searchsorted(values, np.quantile(sure, np.linspace(0, 1, most), method="lower"))
    found: np.ndarray = between[np.unique(ranked)]
    return found
