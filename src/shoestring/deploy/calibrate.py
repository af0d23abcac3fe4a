"""Calibration: from a few inputs to one range per activation tensor, by min-max, percentile or least squared error.

Two streaming passes (extremes, then histograms between them), so memory does not grow with the number of inputs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from onnx import ModelProto, helper
from onnxruntime.quantization.calibrate import HistogramCollector

from shoestring.core.errors import BadInput
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
    """Runs the float model over `inputs()` (called twice; each [1, ...]) and histograms the named tensors. Raises
    BadInput when there is no input, or a tensor is not finite."""
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
            extremes[name] = (min(low, _finite(value.min(), name)), max(high, _finite(value.max(), name)))
    if names and not extremes:
        raise BadInput("calibration: no inputs were given; give at least one")
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
    independently over a grid of candidates, then tried around the best in ever finer steps. Zero always stays
    representable."""
    widest = np.array([min(histogram.low, 0.0), max(histogram.high, 0.0)])
    shares = np.ones(2)
    for step, reach in ((1 / 12, 11), (1 / 48, 3), (1 / 192, 3)):
        steps = step * np.arange(-reach, reach + 1)
        grids = [np.unique(np.clip(share + steps, step, 1.0)) for share in shares]
        shares = min(map(np.array, product(*grids)), key=lambda tried: _error(histogram, widest * tried, levels))
    low, high = widest * shares
    return float(low), float(high)


def entropy(histogram: Histogram) -> Range:
    """The symmetric clipping that loses the least information (Kullback-Leibler; Migacz, GTC 2017), by
    onnxruntime.quantization. Seconds a tensor: only when asked for."""
    if histogram.low == histogram.high:
        return min_max(histogram)  # one value alone has no information to lose: the threshold would be arbitrary
    reach = max(abs(histogram.low), abs(histogram.high))
    edges = np.linspace(-reach, reach, BINS // 2 + 2, dtype=np.float32)
    counts, _ = np.histogram(histogram.centres, edges, weights=histogram.counts)
    seen = np.float32(histogram.low), np.float32(histogram.high)
    collector = HistogramCollector("entropy", False, len(counts), 128, 99.99, "same")
    low, high = collector.get_entropy_threshold((counts.astype(np.int64), edges, *seen, reach), 128)
    return float(low), float(high)


# The rules that are tried, the closest to the original being kept; entropy takes too long to be one of them.
QUICK: Mapping[str, Callable[[Histogram], Range]] = {"min-max": min_max, "percentile": percentile, "mse": mse}
RULES: Mapping[str, Callable[[Histogram], Range]] = {**QUICK, "entropy": entropy}


def _finite(value: np.floating, name: str) -> float:
    """Sums and differences of two such values are finite in float32 too."""
    if not abs(value) < np.finfo(np.float32).max / 4:  # NaN compares false
        raise BadInput(f"calibration: the tensor {name} becomes {value}; check the weights and the inputs")
    return float(value)


def _error(histogram: Histogram, ends: np.ndarray, levels: int) -> float:
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
    scale = BINS / (high - low) if high - low > np.finfo(np.float32).tiny * BINS else 0.0
    bins = ((value.ravel() - np.float32(low)) * np.float32(scale)).astype(np.int32)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)


def _exposing(model: ModelProto, names: Iterable[str]) -> ModelProto:
    """The model with the named tensors among its outputs."""
    typed = infer(model)
    known = {value.name: value for value in [*typed.graph.value_info, *typed.graph.output]}
    inputs = {value.name for value in typed.graph.input}
    outputs = {value.name for value in typed.graph.output}
    for name in names:
        if name not in inputs | outputs:
            typed.graph.output.append(known.get(name) or helper.make_empty_tensor_value_info(name))
    return typed
