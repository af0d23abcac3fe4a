"""The small network of `tests/tiny.py` at every stage of a fit."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.device import Device
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import EightBit, calibrate
from shoestring.pipeline.samples import Samples


@pytest.fixture(scope="session")
def original(tiny: str) -> Original:
    return resolve(tiny, input="3x32x32")


@pytest.fixture(scope="session")
def inputs() -> list[np.ndarray]:
    """Sixteen inputs, each of another brightness."""
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((1, 3, 32, 32)) + rng.normal(0, 1)).astype(np.float32) for _ in range(16)]


@pytest.fixture(scope="session")
def network(original: Original, inputs: list[np.ndarray]) -> EightBit:
    return calibrate(original.graph, inputs[:8], int8.precisions(original.of_kinds(int8.CARD.kinds)))


@pytest.fixture(scope="session")
def variants(original: Original, network: EightBit) -> dict[str, ModelProto]:
    """Option to graph, as the latency table takes them."""
    return {"fp32": original.graph, int8.CARD.name: network.build()}


@pytest.fixture
def device() -> Device:
    return here("onnxruntime")


@pytest.fixture
def samples(inputs: list[np.ndarray]) -> Samples:
    """Without labels."""
    return Samples(inputs[:8], inputs[8:])


@pytest.fixture
def labelled(samples: Samples) -> Samples:
    """Everything is of class 3."""

    def scores(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return (outputs.argmax(axis=1) == targets).astype(float)

    return replace(samples, targets=np.full(len(samples.judgement), 3), scores=scores, metric="top-1")
