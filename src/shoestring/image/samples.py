"""From a data set of images to the Samples that a fit takes."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.image.dataset import Dataset
from shoestring.image.split import split
from shoestring.image.task import ImageClassification, network_input
from shoestring.pipeline.samples import Samples

CALIBRATION = 64


class Inputs(Sequence[np.ndarray]):
    """The network inputs of a data set, float32 [1, C, H, W], made when they are asked for."""

    def __init__(self, dataset: Dataset, spec: Mapping[str, Any]):
        self._dataset, self._spec = dataset, spec

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "Inputs": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Inputs":
        if isinstance(index, slice):
            return Inputs(self._dataset[index], self._spec)
        return network_input(self._spec, self._dataset[index][0])[None]


def samples(dataset: Dataset, task: ImageClassification, calibration: int = CALIBRATION, seed: int = 0) -> Samples:
    """`dataset` split by source photograph into `calibration` inputs (decoded once and kept) and the rest, which
    judges. Raises BadInput when there are too few."""
    fitted, judged = split(dataset, calibration, seed)
    if len(judged) < 2:
        raise BadInput(f"data: {len(dataset)} images, {calibration} calibrate: leave two or more to judge")
    inputs = Inputs(fitted, task.preprocess)
    return Samples(
        calibration=[inputs[index] for index in range(len(inputs))],
        judgement=Inputs(judged, task.preprocess),
        targets=_targets(judged),
        scores=task.quality if judged.labelled else None,
        metric=task.metric,
        provenance={"sha256": dataset.fingerprint, "calibration": len(fitted), "judgement": len(judged), "seed": seed},
    )


def _targets(dataset: Dataset) -> np.ndarray | None:
    return np.array(dataset.targets, dtype=np.int64) if dataset.labelled else None
