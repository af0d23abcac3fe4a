"""Task: what a network is for. A modality (`image`, `points`) implements it; the command line passes it down."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy import ndarray


class Task(Protocol):
    """`metric`: its name ("top-1"); `unit`: "pt" when differences are points; `preprocess`: the JSON spec that turns
    one raw input into one network input (`deploy.preprocess` runs it, in training and in deployment alike);
    `labels`: class names, or empty."""

    metric: str
    unit: str
    higher_is_better: bool
    preprocess: Mapping[str, Any]
    labels: Sequence[str]

    def load(self, path: str | Path) -> Sequence[tuple[Any, Any]]:
        """(raw input, target) pairs; a target is None where there is no label."""
        ...

    def quality(self, outputs: ndarray, targets: ndarray) -> ndarray:
        """Per-input scores [n] of network outputs [n, ...]; their mean times 100 is the metric in points."""
        ...
