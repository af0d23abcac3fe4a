"""Point clouds to train on: shuffled, other points of each in each epoch, augmented."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.cloud_spec import chosen, cloud, ordered, placed
from shoestring.deploy.preprocess import check_spec, preprocess
from shoestring.pipeline.dataset import Dataset
from shoestring.pipeline.epochs import Epochs, Make
from shoestring.points.augment import Augmentation, augmented

CACHE = 2**30  # bytes of clouds that are kept
_KEPT = 8  # times the points that the network takes are kept of a cloud


class TrainingClouds(Epochs):
    """Epochs of point clouds, augmented; network inputs of a tensor spec stay as they are.

    Which points the network is shown of a cloud, and all of the augmentation, is a function of `seed`, the epoch and
    the index in the data, whoever asks for which batch. `spec`: the task's `preprocess`. `how`: the augmentation, None
    for none. `cache`: bytes of clouds to keep; what is beyond is read each time. Raises BadInput for a spec that cannot
    be used and a cloud that cannot be read."""

    def __init__(
        self,
        dataset: Dataset,
        spec: Mapping[str, Any],
        seed: int = 0,
        how: Augmentation | None = Augmentation(),  # noqa: B008 - frozen
        cache: int = CACHE,
    ):
        if not len(dataset):
            raise BadInput("data: no point cloud to train on")
        check_spec(spec)
        if spec["kind"] == "tensor":
            make: Make = lambda indices: np.stack([preprocess(spec, dataset[index][0]) for index in indices])  # noqa: E731
            super().__init__(dataset.targets, seed, lambda number: make, alone=True)
            return
        count, kept = spec["points"], dict[int, np.ndarray]()
        most = cache // (_KEPT * count * 12)

        def known(index: int) -> np.ndarray:
            if index in kept:
                return kept[index]
            points = ordered(cloud(dataset[index][0]))
            if len(points) > _KEPT * count:
                points = chosen(points, _KEPT * count)
            if len(kept) < most:
                kept[index] = points
            return points

        def one(number: int, index: int) -> np.ndarray:
            rng = np.random.default_rng([seed, number, 1, index])
            points = placed(spec, chosen(known(index), count, rng.random(count)))
            return points if how is None else augmented(points, spec["up"], how, rng)

        def of_epoch(number: int) -> Make:
            return lambda indices: np.stack([one(number, int(index)) for index in indices])

        super().__init__(dataset.targets, seed, of_epoch, alone=True)
