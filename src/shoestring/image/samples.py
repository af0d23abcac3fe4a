"""From a data set of images to the Samples that a fit takes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.image.dataset import Dataset
from shoestring.image.split import shuffled, split
from shoestring.image.task import ImageClassification, network_input
from shoestring.image.training import TrainingImages
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


def samples(
    dataset: Dataset,
    task: ImageClassification,
    calibration: int = CALIBRATION,
    seed: int = 0,
    judge: Dataset | None = None,
    train: bool = False,
) -> Samples:
    """Who calibrates, who judges and, with `train`, who trains.

    `judge`, or else what is left of `dataset`, judges. To train on there is then all of `dataset`, or else half of it;
    the first `calibration` inputs drawn with `seed` calibrate (decoded once and kept, not augmented), the same ones
    whether or not there is training. No photograph both judges and does anything else. Raises BadInput when there are
    too few images, and when `judge` holds one of `dataset`.
    """
    if judge is not None:
        _require_apart(dataset, judge)
        fitted, judged = shuffled(dataset, seed), judge
    else:
        fitted, judged = split(dataset, max(1, len(dataset) // 2) if train else calibration, seed)
    if not 1 <= calibration <= len(fitted):
        raise BadInput(f"calibration: {calibration} images of the {len(fitted)} to fit on; take 1 to {len(fitted)}")
    if len(judged) < 2:
        raise BadInput(f"data: {len(fitted)} images to fit on leave {len(judged)}; leave two or more to judge")
    inputs = Inputs(fitted[:calibration], task.preprocess)
    provenance = {
        "sha256": dataset.fingerprint,
        "calibration": calibration,
        "judgement": len(judged),
        "seed": seed,
        **({"training": len(fitted)} if train else {}),
        **({} if judge is None else {"judged_sha256": judge.fingerprint}),
    }
    return Samples(
        calibration=[inputs[index] for index in range(len(inputs))],
        judgement=Inputs(judged, task.preprocess),
        targets=_targets(judged),
        scores=task.quality if judged.labelled else None,
        metric=task.metric,
        provenance=provenance,
        training=TrainingImages(fitted, task.preprocess, seed) if train else None,
    )


def _require_apart(dataset: Dataset, judge: Dataset) -> None:
    """Raises BadInput when an image is in both, whatever it is called there."""
    known = {hashlib.sha256(item.source.content()).digest() for item in dataset.items}
    shared = [item for item in judge.items if hashlib.sha256(item.source.content()).digest() in known]
    if shared:
        what = f"{len(shared)} of the {len(judge)} images (the first is {shared[0].group})"
        raise BadInput(f"--judge: {what} are in --data too; an image either fits or judges, leave them out of one")


def _targets(dataset: Dataset) -> np.ndarray | None:
    return np.array(dataset.targets, dtype=np.int64) if dataset.labelled else None
