"""Samples: the inputs a fit needs, made by a modality and handed down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Samples:
    """`calibration`, `judgement`: network inputs, float32 [1, ...] each; they share no source. `targets`: [n] of the
    judgement inputs, None without labels. `scores`: (outputs, targets) to per-input scores in 0..1, named `metric`.
    `provenance`: what data it was (hash, counts), written into the file."""

    calibration: Sequence[np.ndarray]
    judgement: Sequence[np.ndarray]
    targets: np.ndarray | None = None
    scores: Scores | None = None
    metric: str = ""
    provenance: Mapping[str, object] | None = None
