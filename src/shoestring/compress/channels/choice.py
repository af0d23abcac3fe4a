"""Which channels go: those whose weights, as they will be folded, have the smallest norms."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from shoestring.compress.channels.settings import GLOBAL, MOST, UNMEASURED, Channels
from shoestring.graph.channels import Cell, width


def going(cells: Sequence[Cell], settings: Sequence[Channels], scores: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each cell bool [size], true for the channels to remove: those with the smallest scores, of equal ones the
    first. Cells with one setting share a threshold where it says so."""
    removed = [cell.size * setting.percent / 100 for cell, setting in zip(cells, settings, strict=True)]
    together: dict[Channels, list[int]] = defaultdict(list)
    for number, setting in enumerate(settings):
        if setting.scope == GLOBAL and setting.percent:
            together[setting].append(number)
    for setting, numbers in together.items():
        for number, count in zip(numbers, _below(cells, numbers, setting.percent, scores), strict=True):
            removed[number] = count
    found = []
    for cell, setting, score, count in zip(cells, settings, scores, removed, strict=True):
        multiple = max(1, (setting.multiple or UNMEASURED) // cell.together)
        kept = width(cell.size, 100 * count / cell.size, multiple)
        gone = np.zeros(cell.size, bool)
        gone[np.argsort(score, kind="stable")[: cell.size - kept]] = True
        found.append(gone)
    return found


def _below(cells: Sequence[Cell], numbers: Sequence[int], percent: float, scores: Sequence[np.ndarray]) -> list[float]:
    """How many of each cell are below the threshold that removes `percent` of all channels, and MOST of none."""
    ranked, owner, weights = [], [], []
    for place, number in enumerate(numbers):
        size = cells[number].size
        ordered = np.sort(scores[number])[: int(size * MOST / 100)]
        ranked.append(ordered)
        owner.append(np.full(len(ordered), place))
        weights.append(np.full(len(ordered), cells[number].together))
    order = np.argsort(np.concatenate(ranked), kind="stable")
    total = sum(cells[number].size * cells[number].together for number in numbers)
    gone = np.cumsum(np.concatenate(weights)[order]) <= percent / 100 * total
    return np.bincount(np.concatenate(owner)[order][gone], minlength=len(numbers)).tolist()
