"""Calibration: from a few inputs to one range per activation tensor, by min-max, percentile or least squared error.

Two streaming passes (extremes, then histograms between them), so memory does not grow with the number of inputs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, helper

from shoestring.deploy.rewrite import infer
from shoestring.deploy.runtimes import get

BINS = 2048
Range = tuple[float, float]


@dataclass(frozen=True)
class Histogram:
    """Counts of a tensor's values in `BINS` equal bins over [low, high], over all calibration inputs."""

    low: float
    high: float
    counts: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        step = (self.high - self.low) / len(self.counts)
        return self.low + step * (np.arange(len(self.counts)) + 0.5)


def histograms(
    model: ModelProto, tensors: Iterable[str], inputs: Callable[[], Iterable[np.ndarray]]
) -> dict[str, Histogram]:
    """Runs the float model over `inputs()` (called twice; each [1, ...]) and histograms the named tensors."""
    names = list(tensors)
    graph_input = model.graph.input[0].name
    session = get("onnxruntime").open(_exposing(model, names).SerializeToString(), threads=0)
    produced = [spec.name for spec in session.outputs]

    def values(x: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
        outputs = dict(zip(produced, session(x), strict=True))
        outputs[graph_input] = x
        return ((name, outputs[name]) for name in names)

    extremes: dict[str, Range] = {}
    for x in inputs():
        for name, value in values(x):
            low, high = extremes.get(name, (np.inf, -np.inf))
            extremes[name] = (min(low, float(value.min())), max(high, float(value.max())))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for x in inputs():
        for name, value in values(x):
            counts[name] += _count(value, *extremes[name])
    return {name: Histogram(*extremes[name], counts[name]) for name in names}


def min_max(histogram: Histogram) -> Range:
    """All that was seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, keep: float = 0.9999) -> Range:
    """The central `keep` of what was seen."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    step = (histogram.high - histogram.low) / len(histogram.counts)
    below, above = np.searchsorted(share, [(1 - keep) / 2, (1 + keep) / 2])
    return histogram.low + step * below, min(histogram.high, histogram.low + step * (above + 1))


def mse(histogram: Histogram, levels: int = 256) -> Range:
    """The range with the least expected squared error of an asymmetric `levels`-step grid: both ends are shrunk
    independently over a grid of candidates, then once more around the best. Zero always stays representable."""
    best = (min(histogram.low, 0.0), max(histogram.high, 0.0))
    span = 1.0
    for _ in range(3):
        factors = 1 - span * np.linspace(0, 1, 13)[:-1]
        candidates = [(best[0] * a, best[1] * b) for a in factors for b in factors]
        best = min(candidates, key=lambda ends: _error(histogram, ends, levels))
        span /= 4
    return best


RULES: Mapping[str, Callable[[Histogram], Range]] = {"min-max": min_max, "percentile": percentile, "mse": mse}


def _error(histogram: Histogram, ends: Range, levels: int) -> float:
    low, high = ends
    if high <= low:
        return np.inf
    x = histogram.centres
    scale = (high - low) / (levels - 1)
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(x / scale) + zero, 0, levels - 1)
    return float(np.dot(histogram.counts, np.square((codes - zero) * scale - x)))


def _count(value: np.ndarray, low: float, high: float) -> np.ndarray:
    # np.histogram takes four times as long for equal bins
    scale = BINS / (high - low) if high > low else 0.0
    bins = ((value.ravel() - np.float32(low)) * np.float32(scale)).astype(np.int32)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)


def _exposing(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """The model with the named tensors as its outputs."""
    typed = infer(model)
    known = {value.name: value for value in [*typed.graph.value_info, *typed.graph.output]}
    inputs = {value.name for value in typed.graph.input}
    exposed = ModelProto()
    exposed.CopyFrom(typed)
    del exposed.graph.output[:]
    for name in names:
        if name not in inputs:
            exposed.graph.output.append(known.get(name) or helper.make_empty_tensor_value_info(name))
    return exposed
