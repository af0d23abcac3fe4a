"""Which channels go: those whose weights, as they will be folded, have the smallest norms."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import fx, nn

from shoestring.compress.channels.settings import GLOBAL, MOST, UNMEASURED, Channels, width
from shoestring.graph.channels import IN, OUT, Cell, is_depthwise
from shoestring.graph.dependencies import LAYERS
from shoestring.graph.masks import factors, norms


@torch.no_grad()
def energies(gm: fx.GraphModule) -> dict[tuple[str, str], np.ndarray]:
    """(layer, OUT or IN) to [channels]: the sum of squares of all weights of each channel, batch norm folded in."""
    behind, found = norms(gm), {}
    for path, layer in gm.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        weight = layer.weight.detach().double()
        scale = factors(layer, behind.get(path)).reshape(-1, *[1] * (weight.ndim - 1))
        square = (weight * scale).square().flatten(2).sum(-1) if weight.ndim > 2 else (weight * scale).square()
        found[path, OUT] = square.sum(1).cpu().numpy()
        if not is_depthwise(layer):
            groups = 1 if isinstance(layer, nn.Linear) else layer.groups
            found[path, IN] = square.reshape(groups, -1, square.shape[1]).sum(1).flatten().cpu().numpy()
    return found


def importance(cell: Cell, energies: Mapping[tuple[str, str], np.ndarray]) -> np.ndarray:
    """[size]: the norm of each channel of the cell over all layers that make or read it (arXiv 2301.12900), as a
    multiple of their mean."""
    total = np.zeros(cell.size)
    for place, indices in cell.indices.items():
        if place in energies:
            total += energies[place][indices].sum(1)
    norm = np.sqrt(total)
    return norm / (norm.mean() or 1.0)


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
