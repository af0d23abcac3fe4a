"""Calibration against NumPy on all values at once, and against brute force."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnxruntime.quantization.calibrate import HistogramCollector

from shoestring.core.errors import BadInput
from shoestring.deploy.calibrate import BINS, QUICK, RULES, Histogram, entropy, histograms, min_max, mse, percentile

Build = Callable[..., ModelProto]
RNG = np.random.default_rng(0)


def scaled(build: Build, factor: float = 2.0) -> ModelProto:
    """y = relu(factor * x)"""
    nodes = [helper.make_node("Mul", ["x", "f"], ["m"], name="m"), helper.make_node("Relu", ["m"], ["y"], name="y")]
    return build(nodes, {"f": np.float32(factor)}, [1, 1000], [1, 1000])


def of(values: np.ndarray) -> Histogram:
    counts, edges = np.histogram(values, BINS)
    return Histogram(float(edges[0]), float(edges[-1]), counts)


@pytest.fixture
def data() -> list[np.ndarray]:
    return list(
        RNG.standard_normal((5, 1, 1000), dtype=np.float32) * np.array([1, 5, 1, 0.1, 3], np.float32)[:, None, None]
    )


def test_histograms_are_those_of_all_values_together(build: Build, data: list[np.ndarray]) -> None:
    calls = []

    def inputs() -> Iterable[np.ndarray]:
        calls.append(1)
        return iter(data)  # can be read once only: nothing is kept

    found = histograms(scaled(build), ["x", "m", "y"], inputs)
    assert len(calls) == 2
    together = np.concatenate(data).ravel()
    for name, values in {"x": together, "m": 2 * together, "y": np.maximum(2 * together, 0)}.items():
        histogram = found[name]
        assert (histogram.low, histogram.high) == (values.min(), values.max())
        assert histogram.counts.sum() == values.size
        expected, _ = np.histogram(values.astype(np.float64), BINS)
        # The bin is found in float32: a value on a border, within 2^-24 of the range, may fall to its other side.
        assert np.abs(np.cumsum(histogram.counts - expected)).max() <= 2


def test_a_constant_tensor_is_one_bin(build: Build) -> None:
    for value in (0.0, -3.0, 3.0, 1e-42):
        x = np.full((1, 1000), value, np.float32)
        found = histograms(scaled(build, 1.0), ["x", "y"], lambda x=x: [x, x])
        assert found["x"].low == found["x"].high == np.float32(value)
        assert found["x"].counts[0] == 2000 and found["x"].counts.sum() == 2000
        for rule in RULES.values():
            low, high = rule(found["x"])
            assert min(low, 0.0) <= np.float32(value) <= max(high, 0.0)


def test_values_too_close_for_bins_are_one_bin(build: Build) -> None:
    x = np.linspace(0, 1e-38, 1000, dtype=np.float32)[None]
    counts = histograms(scaled(build, 1.0), ["x"], lambda: [x])["x"].counts
    assert counts[0] == counts.sum() == 1000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_is_refused_by_name(build: Build, value: float) -> None:
    x = np.ones((1, 1000), np.float32)
    x[0, 7] = value
    with pytest.raises(BadInput, match="tensor x becomes"):
        histograms(scaled(build), ["x", "y"], lambda: [np.ones_like(x), x])


def test_a_layer_that_overflows_is_named(build: Build) -> None:
    with pytest.raises(BadInput, match="tensor m becomes inf"):
        histograms(scaled(build, 1e38), ["x", "m"], lambda: [np.full((1, 1000), 10, np.float32)])


def test_no_inputs_are_refused(build: Build) -> None:
    with pytest.raises(BadInput, match="no inputs"):
        histograms(scaled(build), ["x"], list)


def test_no_tensors_are_no_histograms(build: Build, data: list[np.ndarray]) -> None:
    assert histograms(scaled(build), [], lambda: data) == {}


@pytest.mark.parametrize("keep", [0.9, 0.99, 0.9999])
@pytest.mark.parametrize("values", [RNG.standard_normal(20_000), RNG.exponential(size=20_000)], ids=["normal", "skew"])
def test_percentile_is_numpys_within_a_bin(values: np.ndarray, keep: float) -> None:
    histogram = of(values)
    step = (histogram.high - histogram.low) / BINS
    low, high = percentile(histogram, keep)
    wanted = np.percentile(values, [50 * (1 - keep), 50 * (1 + keep)], method="inverted_cdf")
    assert np.abs(np.array([low, high]) - wanted).max() <= step * (1 + 1e-9)
    assert histogram.low <= low <= wanted[0] and wanted[1] <= high <= histogram.high


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    """Of the u8 grid over [low, high], on the values themselves."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    return float(np.square((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale - values).mean())


@pytest.mark.parametrize(
    "values",
    [
        RNG.standard_normal(20_000),
        np.maximum(RNG.standard_normal(20_000), 0),
        np.append(RNG.standard_normal(20_000), [60.0, -20.0]),  # outliers
        RNG.laplace(size=20_000) + 1,
        RNG.uniform(-1, 3, 20_000),
        -RNG.exponential(size=20_000),
    ],
    ids=["normal", "relu", "outliers", "laplace", "uniform", "negative"],
)
def test_mse_is_close_to_the_best_of_a_fine_grid(values: np.ndarray) -> None:
    low, high = mse(of(values))
    assert low <= 0 <= high
    ends = min(values.min(), 0.0), max(values.max(), 0.0)
    shares = np.arange(1, 41) / 40
    brute = min(squared_error(values, ends[0] * a, ends[1] * b) for a in shares for b in shares)
    assert squared_error(values, low, high) <= 1.03 * brute


def test_entropy_is_the_librarys_on_the_values_themselves() -> None:
    bins = BINS // 2 + 1
    values = np.append(RNG.standard_normal(20_000), [9.0, -9.0]).astype(np.float32)
    collector = HistogramCollector("entropy", False, bins, 128, 99.99, "same")
    collector.collect_value({"x": [values]})
    low, high = collector.compute_entropy()["x"][:2]
    assert low > -9 and high < 9  # something is cut off at all
    counts, _ = np.histogram(values, bins, (-9, 9))
    assert entropy(Histogram(-9.0, 9.0, counts)) == (low, high)


def test_rules_by_name() -> None:
    histogram = of(RNG.standard_normal(1000))
    assert {"min-max": min_max, "percentile": percentile, "mse": mse} == QUICK
    assert {**QUICK, "entropy": entropy} == RULES
    assert min_max(histogram) == (histogram.low, histogram.high)
