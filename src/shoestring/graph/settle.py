"""Statistics of batch norms after what stands before them has changed, from a few inputs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.core.errors import BadInput

BATCH = 64


def norms_of(model: nn.Module) -> list[_BatchNorm]:
    """Those that keep statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def batches(inputs: Sequence[np.ndarray], size: int = BATCH) -> list[np.ndarray]:
    """[n, ...] each, at most `size`, of inputs [1, ...]. As many in each, or one less: in a mean over batches one
    straggler would count as much as all others."""
    count = -(-len(inputs) // size)
    ends = [len(inputs) * index // count for index in range(count + 1)] if count else [0]
    return [np.concatenate(inputs[first:last]) for first, last in pairwise(ends)]


@torch.no_grad()
def settle(model: nn.Module, given: Sequence[Tensor], norms: Sequence[_BatchNorm]) -> None:
    """Gives `norms` of `model` the mean of the statistics of these batches, in place; leaves it in eval mode. Raises
    BadInput for a batch of one input that a norm has one value a channel of."""
    kept = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
        norm.train()
    for batch in given:
        try:
            model(batch)
        except ValueError as error:
            if len(batch) > 1:
                raise
            raise BadInput(f"calibration: 1 input is too few ({error}); give 2 inputs or more") from error
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    model.eval()
