"""What training asks of a data set. A modality implements it; the pipeline hands it down."""

from collections.abc import Iterator
from typing import Protocol

import torch
from numpy import ndarray
from torch import Tensor

from shoestring.core.errors import BadInput


class Batches(Protocol):
    """Inputs to train on. Order and augmentation depend on (the data's seed, epoch number, index) only, so that a run
    can be continued anywhere. `labelled`: whether there are labels at all."""

    labelled: bool

    def __len__(self) -> int:
        """Inputs an epoch."""
        ...

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[ndarray, ndarray]]:
        """The batches of epoch `number` from batch `start` on, for process `rank` of `world`: inputs float32 [b, ...]
        and labels int64 [b] (-1: none), b = batch / world. The last batch is dropped when it is short, unless it is
        the only one. What `start` skips is not decoded."""
        ...


def steps_per_epoch(data: Batches, batch: int) -> int:
    return max(1, len(data) // batch)


def load(
    data: Batches, batch: int, steps: range, rank: int = 0, world: int = 1
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, inputs, labels) of the given steps of a run, epoch after epoch, for one process of `world`. Raises
    BadInput when an epoch ends early."""
    per_epoch, step = steps_per_epoch(data, batch), steps.start
    while step < steps.stop:
        number, start = divmod(step, per_epoch)
        end = min(steps.stop, (number + 1) * per_epoch)
        for inputs, labels in data.epoch(number, batch, start, rank, world):
            yield step, torch.tensor(inputs), torch.tensor(labels)
            step += 1
            if step == end:
                break
        if step < end:
            raise BadInput(f"data: epoch {number + 1} ended {end - step} batches early; its length must be {len(data)}")
