"""From a data set to the Samples that a fit takes: who calibrates, who judges, who trains."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import at_size, preprocess
from shoestring.pipeline.classification import Classification
from shoestring.pipeline.dataset import Dataset
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.split import shuffled, split

CALIBRATION = 64
HELD = 5000  # inputs at most
_HELD_SHARE = 5  # of what could train, one of so many is held


class Inputs(Sequence[np.ndarray]):
    """The network inputs of a data set, float32 [1, ...], made when they are asked for. `make`: (spec, raw input) to
    one of them, without its batch axis."""

    def __init__(
        self,
        dataset: Dataset,
        spec: Mapping[str, Any],
        make: Callable[[Mapping[str, Any], Any], np.ndarray] = preprocess,
    ):
        self._dataset, self._spec, self._make = dataset, spec, make

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "Inputs": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Inputs":
        if isinstance(index, slice):
            return Inputs(self._dataset[index], self._spec, self._make)
        return self._make(self._spec, self._dataset[index][0])[None]


def samples(  # noqa: PLR0913 - who does what is decided in one place
    dataset: Dataset,
    task: Classification,
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
    without training all that do not calibrate. No original both judges and does anything else. Raises BadInput when
    there are too few, and when `judge` holds one of `dataset`.
    """
    if judge is not None:
        _require_apart(dataset, judge)
        fitted, judged = shuffled(dataset, seed), judge
    else:
        fitted, judged = split(dataset, max(1, len(dataset) // 2) if train or hold else calibration, seed)
    if not 1 <= calibration <= len(fitted):
        raise BadInput(f"calibration: {calibration} inputs of the {len(fitted)} to fit on; take 1 to {len(fitted)}")
    if len(judged) < 2:
        raise BadInput(f"data: {len(fitted)} inputs to fit on leave {len(judged)}; leave two or more to judge")
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

    def inputs(part: Dataset, spec: Mapping[str, Any]) -> Inputs:
        return Inputs(part, spec, task.network_input)

    def resized(shape: tuple[int, ...]) -> Samples:
        spec = at_size(task.preprocess, shape)
        return replace(found, calibration=list(inputs(few, spec)), judgement=inputs(judged, spec))

    found = Samples(
        calibration=list(inputs(few, task.preprocess)),
        **_judged(judged, task),
        provenance=provenance,
        training=task.training(fitted, seed) if train else None,
        resized=None if task.preprocess["kind"] == "tensor" else resized,
        held=Samples([], **_judged(held, task)) if len(held) > 1 else None,
    )
    return found


def labels(task: Classification, dataset: Dataset) -> tuple[str, ...]:
    """Names of the network's outputs: its own, else the classes of data that name every output; else none."""
    names = tuple(task.labels) or dataset.names
    return names if len(names) == task.outputs and all(names) else ()


def load(data: str | Path | None, demo: bool, task: Classification) -> Dataset:
    """The user's inputs, or those that need no data. Raises BadInput when both or neither are named."""
    if (data is None) == (not demo):
        raise BadInput("data: give --data DIR, or --demo for what installed packages bring (one of the two)")
    return task.match(task.demo()) if data is None else task.load(data)


def judged_samples(
    task: Classification | None,
    data: str | Path | None,
    demo: bool,
    calibration: int,
    seed: int,
    fitted_on: Mapping[str, object] | None = None,
) -> Samples | None:
    """Samples to judge a finished file on, None when no data was named. The same split as `fit` with the same
    arguments, so that nothing is judged that was calibrated on. `fitted_on`: what the file tells of its data
    (`Samples.provenance`); of the same data nothing is judged that was trained on either. Raises BadInput when quality
    cannot be told."""
    if data is None and not demo:
        return None
    if task is None:
        raise BadInput("--data: quality is told against the original; add --original MODEL")
    dataset = load(data, demo, task)
    told = fitted_on or {}
    trained = bool(told.get("training") or told.get("held")) and told.get("sha256") == dataset.fingerprint
    if trained and "judged_sha256" in told:
        raise BadInput("--data: the file was trained on all of these inputs; give the ones that judged it, or others")
    if trained and seed != told.get("seed"):
        drawn = f"the file was trained on half of these inputs, drawn with seed {told.get('seed')}"
        raise BadInput(f"--seed: {drawn}; leave --seed {seed} out, to judge on the other half")
    return samples(dataset, task, calibration, seed, train=trained)


def _judged(dataset: Dataset, task: Classification) -> dict[str, Any]:
    """The fields of Samples that say who judges, and how."""
    scores = task.quality if dataset.labelled else None
    given = Inputs(dataset, task.preprocess, task.network_input)
    return {"judgement": given, "targets": _targets(dataset), "scores": scores, "metric": task.metric}


def _require_apart(dataset: Dataset, judge: Dataset) -> None:
    """Raises BadInput when an input is in both, whatever it is called there."""
    known = {hashlib.sha256(item.source.content()).digest() for item in dataset.items}
    shared = [item for item in judge.items if hashlib.sha256(item.source.content()).digest() in known]
    if shared:
        what = f"{len(shared)} of the {len(judge)} inputs (the first is {shared[0].group})"
        raise BadInput(f"--judge: {what} are in --data too; an input either fits or judges, leave them out of one")


def _targets(dataset: Dataset) -> np.ndarray | None:
    return np.array(dataset.targets, dtype=np.int64) if dataset.labelled else None
