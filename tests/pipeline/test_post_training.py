"""Calibration and files at 8 bits, against the runtime used directly."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto

from shoestring.core.precision import Precision
from shoestring.deploy.calibrate import RULES
from shoestring.deploy.quantize import activations
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import EightBit, calibrate, loss, outputs, with_best_rule


def run(graph, inputs) -> np.ndarray:
    """The runtime without anything of ours."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    return np.concatenate([session.run(None, {name: x})[0] for x in inputs])


def codes(graph: ModelProto) -> list[str]:
    """What is stored in int8 and is no zero point."""
    return [t.name for t in graph.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("given", "held"), [(1, 1), (2, 1), (3, 1), (7, 1), (8, 2), (16, 4)])
def test_a_quarter_is_held_out(given: int, held: int, original: Original, inputs, network: EightBit) -> None:
    """What is held out makes no histogram; a single input has to do both."""
    calibrated = calibrate(original.graph, inputs[:given], network.precisions)
    assert [x is y for x, y in zip(calibrated.held_out, inputs, strict=False)] == [True] * held
    fitted = inputs[held:given] or inputs[:given]
    seen = calibrated.histograms["input"]
    assert seen.counts.sum() == sum(x.size for x in fitted)
    assert seen.low == min(x.min() for x in fitted)
    assert seen.high == max(x.max() for x in fitted)


def test_build_quantises_what_it_is_told_to(network: EightBit) -> None:
    quantised = network.build()
    assert network.build(network.precisions) == quantised
    assert network.build(set()) == network.graph
    (only,) = codes(network.build({"stem.0"}))
    assert only.startswith("stem.0.weight")
    assert len(codes(quantised)) == len(network.precisions)


def test_outputs_and_loss(network: EightBit, inputs) -> None:
    original, graph = run(network.graph, inputs), network.build()
    assert np.array_equal(outputs(graph, "onnxruntime", inputs), run(graph, inputs))
    assert loss(network.graph, original, inputs) == 0.0
    moved = np.abs(softmax(run(graph, inputs)) - softmax(original)).sum(axis=1).mean() / 2
    assert loss(graph, original, inputs) == pytest.approx(100 * moved)


def test_the_rule_that_moves_least_is_kept(network: EightBit, inputs) -> None:
    found = with_best_rule(network)
    original = run(network.graph, network.held_out)
    assert set(found.tried) <= set(RULES)
    assert len(found.tried) == 3
    for rule, points in found.tried.items():
        file = run(replace(network, rule=rule).build(), network.held_out)
        assert points == pytest.approx(50 * np.abs(softmax(file) - softmax(original)).sum(axis=1).mean())
    assert found.tried[found.rule] == min(found.tried.values())


def test_ranges_that_min_max_gets_wrong(original: Original, inputs, network: EightBit) -> None:
    """One pixel of one input is a thousand times too bright: min-max wastes its steps on it, the others do not."""
    spoilt = [x.copy() for x in inputs]
    spoilt[10][0, 0, 0, 0] = 1000.0
    stem: dict[str, Precision] = {"stem.0": network.precisions["stem.0"]}
    found = with_best_rule(calibrate(original.graph, spoilt, stem))
    assert found.rule != "min-max"
    assert found.tried[found.rule] < found.tried["min-max"]
    assert set(activations(original.graph, stem)) <= set(found.histograms)
