"""From a network's class scores to what a person reads, and how sure it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shoestring.core.errors import BadInput


@dataclass(frozen=True)
class Prediction:
    """One class: its `label` (its index as text when the file has none), `index` and `probability` in 0..1."""

    label: str
    index: int
    probability: float


def best(outputs: np.ndarray, labels: Sequence[str], top: int, file: str) -> list[Prediction]:
    """The `top` likeliest classes of one output [classes]. Raises BadInput, naming `file`, for other outputs."""
    if outputs.ndim != 1:
        raise BadInput(f"{file}: its output {outputs.shape} is no list of class scores; use .outputs")
    if not np.isfinite(outputs).all():
        raise BadInput(f"{file}: its output is not finite on this input")
    scores = probabilities(outputs)
    order = np.argsort(-scores, kind="stable")[:top]
    return [Prediction(labels[i] if i < len(labels) else str(i), int(i), float(scores[i])) for i in order]


def confident(outputs: np.ndarray, rule: Mapping[str, float]) -> bool:
    """Whether an answer [classes] is final by the `confidence` of its point: the largest probability at its temperature
    (Guo et al. 2017, arXiv 1706.04599) reaches its threshold. Never without a rule, nor where a score is not finite."""
    if not rule or outputs.ndim != 1 or not np.isfinite(outputs).all():
        return False
    return float(probabilities(outputs.astype(np.float64) / rule["temperature"]).max()) >= rule["threshold"]


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax of [classes]."""
    scores: np.ndarray = np.exp(outputs - outputs.max())
    scores /= scores.sum()
    return scores
