"""From a data set of images to the Samples that a fit takes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import at_size
from shoestring.image.dataset import Dataset
from shoestring.image.split import shuffled, split
from shoestring.image.task import ImageClassification, network_input
from shoestring.image.training import TrainingImages
from shoestring.pipeline.samples import Samples

CALIBRATION = 64
HELD = 5000  # inputs at most
_HELD_SHARE = 5  # of what could train, one of so many is held


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


def samples(  # noqa: PLR0913 - who does what is decided in one place
    dataset: Dataset,
    task: ImageClassification,
    calibration: int = CALIBRATION,
    seed: int = 0,
    judge: Dataset | None = None,
    train: bool = False,
    hold: bool = False,
) -> Samples:
    """Who calibrates, who judges, with `train` who trains, and with `hold` who is held for decisions afterwards.

    `judge`, or else what is left of `dataset`, judges. To train on there is then all of `dataset`, or else half of it;
    the first `calibration` inputs drawn with `seed` calibrate (decoded once and kept, not augmented), the same ones
    whether or not there is training. With `hold` a fifth of those to train on (HELD at most) is held instead, and
    without training all that do not calibrate. No photograph both judges and does anything else. Raises BadInput when
    there are too few images, and when `judge` holds one of `dataset`.
    """
    if judge is not None:
        _require_apart(dataset, judge)
        fitted, judged = shuffled(dataset, seed), judge
    else:
        fitted, judged = split(dataset, max(1, len(dataset) // 2) if train or hold else calibration, seed)
    if not 1 <= calibration <= len(fitted):
        raise BadInput(f"calibration: {calibration} images of the {len(fitted)} to fit on; take 1 to {len(fitted)}")
    if len(judged) < 2:
        raise BadInput(f"data: {len(fitted)} images to fit on leave {len(judged)}; leave two or more to judge")
    few, rest = fitted[:calibration], len(fitted) - calibration
    kept = len(fitted) - (min(HELD, rest // _HELD_SHARE if train else rest) if hold else 0)
    held, fitted = fitted[kept:], fitted[:kept]
    provenance = {
        "sha256": dataset.fingerprint,
        "calibration": calibration,
        "judgement": len(judged),
        "seed": seed,
        **({"training": len(fitted)} if train else {}),
        **({"held": len(held)} if hold else {}),
        **({} if judge is None else {"judged_sha256": judge.fingerprint}),
    }

    def resized(shape: tuple[int, ...]) -> Samples:
        spec = at_size(task.preprocess, shape)
        return replace(found, calibration=list(Inputs(few, spec)), judgement=Inputs(judged, spec))

    found = Samples(
        calibration=list(Inputs(few, task.preprocess)),
        **_judged(judged, task),
        provenance=provenance,
        training=TrainingImages(fitted, task.preprocess, seed) if train else None,
        resized=resized if task.preprocess["kind"] == "image" else None,
        held=Samples([], **_judged(held, task)) if len(held) > 1 else None,
    )
    return found


def _judged(dataset: Dataset, task: ImageClassification) -> dict[str, Any]:
    """The fields of Samples that say who judges, and how."""
    scores = task.quality if dataset.labelled else None
    given = Inputs(dataset, task.preprocess)
    return {"judgement": given, "targets": _targets(dataset), "scores": scores, "metric": task.metric}


def _require_apart(dataset: Dataset, judge: Dataset) -> None:
    """Raises BadInput when an image is in both, whatever it is called there."""
    known = {hashlib.sha256(item.source.content()).digest() for item in dataset.items}
    shared = [item for item in judge.items if hashlib.sha256(item.source.content()).digest() in known]
    if shared:
        what = f"{len(shared)} of the {len(judge)} images (the first is {shared[0].group})"
        raise BadInput(f"--judge: {what} are in --data too; an image either fits or judges, leave them out of one")


def _targets(dataset: Dataset) -> np.ndarray | None:
    return np.array(dataset.targets, dtype=np.int64) if dataset.labelled else None
