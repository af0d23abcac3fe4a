"""Samples: the inputs a fit needs, made by a modality and handed down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the room that trains loads what a receipt can do without
    from shoestring.train.data import Batches

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Samples:
    """`calibration`, `judgement`: network inputs, float32 [1, ...] each; they share no source. `targets`: [n] of the
    judgement inputs, None without labels. `scores`: (outputs, targets) to per-input scores in 0..1, named `metric`.
    `provenance`: what data it was (hash, counts), written into the file. `training`: what may be trained on, with
    calibration among it; it shares no source with judgement. `resized`: these inputs (not those to train on) for a
    network that takes another shape, where the modality can make them. `held`: others still, whose `judgement` nobody
    has trained or calibrated on, for what is decided after that."""

    calibration: Sequence[np.ndarray]
    judgement: Sequence[np.ndarray]
    targets: np.ndarray | None = None
    scores: Scores | None = None
    metric: str = ""
    provenance: Mapping[str, object] | None = None
    training: "Batches | None" = None
    resized: "Callable[[tuple[int, ...]], Samples] | None" = None
    held: "Samples | None" = None
