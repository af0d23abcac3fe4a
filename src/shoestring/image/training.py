"""Images to train on: shuffled, augmented, decoded ahead of the network that takes them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import check_spec, framed, normalise, photograph
from shoestring.image.augment import DRAWS, resized_crop, shifted
from shoestring.image.dataset import Dataset
from shoestring.image.task import network_input
from shoestring.measure.machine import cores

CACHE = 2**30  # bytes of decoded small images that are kept: 349,525 of 32 x 32
LEAST_AREA = 0.35  # of a photograph, in a crop of it
_SMALL = 64  # pixels a side
_AHEAD = 2  # batches made while the network is busy
_THREADS = 8  # at most

# (indices [n], draws [n, DRAWS]) to network inputs float32 [n, C, H, W]; called from other threads, several at once.
Make = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TrainingImages:
    """Implements `train.data.Batches` for images: each epoch all of them once, in another order, augmented.

    Small images (of at most 64 x 64, or that the spec does not resize) are shifted and mirrored; of photographs random
    parts are taken; what already is a network input stays as it is. Order and augmentation are a function of `seed`,
    the epoch and the index in the data, whoever asks for which batch. `spec`: the task's `preprocess`. `least`: the
    smallest part of a photograph, as a share of its area. `cache`: bytes of decoded small images to keep; what is
    beyond is decoded each time. Raises BadInput for a spec that cannot be used and for an image that cannot be decoded.
    """

    def __init__(
        self, dataset: Dataset, spec: Mapping[str, Any], seed: int = 0, least: float = LEAST_AREA, cache: int = CACHE
    ):
        if not len(dataset):
            raise BadInput("data: no image to train on")
        check_spec(spec)
        self._seed = seed
        self._targets = np.array([-1 if target is None else target for target in dataset.targets], dtype=np.int64)
        self.labelled = bool((self._targets >= 0).any())
        # Threads that decode small images wait for each other more than they work: there one makes whole batches.
        self._alone = True
        self._make: Make
        if spec["kind"] == "tensor" or isinstance(dataset[0][0], np.ndarray):
            self._make = _as_they_are(dataset, spec)
        elif spec["resize"] is None or max(spec["crop"]) <= _SMALL:
            self._make = _small(dataset, spec, cache)
        else:
            self._make, self._alone = _photographs(dataset, spec, least), False

    def __len__(self) -> int:
        return len(self._targets)

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(inputs float32 [b, C, H, W], targets int64 [b], -1 where there is none) for the process `rank` of `world`:
        its part, b = batch / world, of each global batch from the one numbered `start` on.

        What does not fill the last batch is left out; when that is the only one, it is as large as there are inputs.
        Raises BadInput when `batch` is no multiple of `world`, or there are fewer inputs than processes.
        """
        if batch < 1 or batch % world:
            raise BadInput(f"batch: {batch} inputs at once cannot be shared by {world} processes; give a multiple")
        whole = min(batch, len(self) // world * world)
        if not whole:
            raise BadInput(f"data: {len(self)} images for {world} processes; start fewer")
        share = whole // world
        order = np.random.default_rng([self._seed, number, 0]).permutation(len(self))
        draws = np.random.default_rng([self._seed, number, 1]).random((len(self), DRAWS), dtype=np.float32)
        firsts = range(start * whole + rank * share, len(self) - whole + rank * share + 1, whole)
        threads = 1 if self._alone else max(1, min(_THREADS, cores() // world))
        return self._made((order[first : first + share] for first in firsts), draws, threads)

    def _made(
        self, shares: Iterable[np.ndarray], draws: np.ndarray, threads: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of these indices, `_AHEAD` of them under way."""
        pool = ThreadPoolExecutor(threads)
        waiting: deque[tuple[np.ndarray, Iterator[np.ndarray]]] = deque()

        def next_batch() -> tuple[np.ndarray, np.ndarray]:
            indices, parts = waiting.popleft()
            return np.concatenate(list(parts)), self._targets[indices]

        try:
            for indices in shares:
                pieces = [indices] if self._alone else np.split(indices, len(indices))
                waiting.append((indices, pool.map(lambda piece: self._make(piece, draws[piece]), pieces)))
                if len(waiting) > _AHEAD:
                    yield next_batch()
            while waiting:
                yield next_batch()
        finally:
            pool.shutdown(cancel_futures=True)


def _as_they_are(dataset: Dataset, spec: Mapping[str, Any]) -> Make:
    """Network inputs, which lie in memory already."""
    return lambda indices, draws: np.stack([network_input(spec, dataset[index][0]) for index in indices])


def _small(dataset: Dataset, spec: Mapping[str, Any], cache: int) -> Make:
    """Each image is decoded when it is first asked for."""
    shape = (*spec["crop"], 3)
    kept = np.empty((min(len(dataset), cache // int(np.prod(shape))), *shape), np.uint8)
    known = np.zeros(len(kept), bool)

    def decoded(index: int) -> np.ndarray:
        if index >= len(kept):
            return framed(spec, dataset[index][0])
        if not known[index]:
            kept[index] = framed(spec, dataset[index][0])
            known[index] = True  # last: two epochs may run at once
        return kept[index]

    return lambda indices, draws: normalise(spec, shifted(np.stack([decoded(index) for index in indices]), draws))


def _photographs(dataset: Dataset, spec: Mapping[str, Any], least: float) -> Make:
    """Each image is decoded every time."""

    def make(indices: np.ndarray, draws: np.ndarray) -> np.ndarray:
        parts = zip(indices, draws, strict=True)
        return normalise(
            spec, np.stack([resized_crop(photograph(dataset[i][0]), spec, row, least) for i, row in parts])
        )

    return make
