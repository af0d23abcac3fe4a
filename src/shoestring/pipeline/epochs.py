"""Epochs: inputs to train on, shuffled, made ahead of the network that takes them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.measure.machine import cores

_AHEAD = 2  # batches made while the network is busy
_THREADS = 8  # at most

# Indices [n] to network inputs float32 [n, ...]; called from other threads, several at once.
Make = Callable[[np.ndarray], np.ndarray]


class Epochs:
    """Implements `train.data.Batches`: each epoch all inputs once, in another order, a function of `seed`, the epoch
    and the index in the data, whoever asks for which batch. `of_epoch`: for the number of an epoch, what makes inputs,
    augmented. `alone`: one thread makes whole batches, where threads would wait for each other more than they work."""

    def __init__(self, targets: Sequence[int | None], seed: int, of_epoch: Callable[[int], Make], alone: bool):
        self._seed, self._of_epoch, self._alone = seed, of_epoch, alone
        self._targets = np.array([-1 if target is None else target for target in targets], dtype=np.int64)
        self.labelled = bool((self._targets >= 0).any())

    def __len__(self) -> int:
        return len(self._targets)

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(inputs float32 [b, ...], targets int64 [b], -1 where there is none) for the process `rank` of `world`:
        its part, b = batch / world, of each global batch from the one numbered `start` on.

        What does not fill the last batch is left out; when that is the only one, it is as large as there are inputs.
        Raises BadInput when `batch` is no multiple of `world`, or there are fewer inputs than processes.
        """
        if batch < 1 or batch % world:
            raise BadInput(f"batch: {batch} inputs at once cannot be shared by {world} processes; give a multiple")
        whole = min(batch, len(self) // world * world)
        if not whole:
            raise BadInput(f"data: {len(self)} inputs for {world} processes; start fewer")
        share = whole // world
        order = np.random.default_rng([self._seed, number, 0]).permutation(len(self))
        make = self._of_epoch(number)
        firsts = range(start * whole + rank * share, len(self) - whole + rank * share + 1, whole)
        threads = 1 if self._alone else max(1, min(_THREADS, cores() // world))
        return self._made((order[first : first + share] for first in firsts), make, threads)

    def _made(self, shares: Iterable[np.ndarray], make: Make, threads: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of these indices, `_AHEAD` of them under way."""
        pool = ThreadPoolExecutor(threads)
        waiting: deque[tuple[np.ndarray, Iterator[np.ndarray]]] = deque()

        def next_batch() -> tuple[np.ndarray, np.ndarray]:
            indices, parts = waiting.popleft()
            return np.concatenate(list(parts)), self._targets[indices]

        try:
            for indices in shares:
                pieces = [indices] if self._alone else np.split(indices, len(indices))
                waiting.append((indices, pool.map(make, pieces)))
                if len(waiting) > _AHEAD:
                    yield next_batch()
            while waiting:
                yield next_batch()
        finally:
            pool.shutdown(cancel_futures=True)
