"""Images to train on: shuffled, augmented, decoded ahead of the network that takes them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import check_spec, framed, normalise, photograph
from shoestring.image.augment import DRAWS, resized_crop, shifted
from shoestring.image.task import network_input
from shoestring.pipeline.dataset import Dataset
from shoestring.pipeline.epochs import Epochs
from shoestring.pipeline.epochs import Make as MakeInputs

CACHE = 2**30  # bytes of decoded small images that are kept: 349,525 of 32 x 32
LEAST_AREA = 0.35  # of a photograph, in a crop of it
_SMALL = 64  # pixels a side

# (indices [n], draws [n, DRAWS]) to network inputs float32 [n, C, H, W]; called from other threads, several at once.
Make = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TrainingImages(Epochs):
    """Epochs of images, augmented.

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
        # Threads that decode small images wait for each other more than they work: there one makes whole batches.
        alone = True
        make: Make
        if spec["kind"] == "tensor" or isinstance(dataset[0][0], np.ndarray):
            make = _as_they_are(dataset, spec)
        elif spec["resize"] is None or max(spec["crop"]) <= _SMALL:
            make = _small(dataset, spec, cache)
        else:
            make, alone = _photographs(dataset, spec, least), False

        def of_epoch(number: int) -> MakeInputs:
            draws = np.random.default_rng([seed, number, 1]).random((len(dataset), DRAWS), dtype=np.float32)
            return lambda indices: make(indices, draws[indices])

        super().__init__(dataset.targets, seed, of_epoch, alone)


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
