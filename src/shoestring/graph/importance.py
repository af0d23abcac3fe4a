"""What a channel is worth: the norm of the weights that make and read it, as they will be folded."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import fx, nn

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
