"""Stages of an 8-bit network with exits: cut at codes, equal to the whole, timed."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto

from shoestring.compress.exits.heads import first_layer
from shoestring.compress.exits.network import apply
from shoestring.compress.exits.settings import parse
from shoestring.core.errors import BadInput, NotMet
from shoestring.deploy import runtimes
from shoestring.pipeline.chain import Chain, chain, check
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import eight_bit
from shoestring.pipeline.samples import Samples

HEADS = [first_layer(index) for index in range(2)]


def quiet(stage: str, share: float) -> None:
    assert 0 <= share <= 1, stage


@pytest.fixture(scope="module")
def whole(original: Original, inputs: list[np.ndarray]) -> ModelProto:
    assert original.model is not None
    exiting = apply(original.model, parse("2"))
    exiting.settle(inputs[:8])
    return eight_bit(remade(original, exiting.bake()), Samples(inputs[:8], [])).build()


@pytest.fixture
def times(timed: Callable[..., None]) -> None:
    timed({"0": 1.0, "1": 2.0, "2": 4.0, "without exits": 3.5})


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "engine"])
def test_stages_pass_the_gates_on_every_runtime(
    runtime: str, whole: ModelProto, inputs: list[np.ndarray], times
) -> None:
    if runtime not in runtimes.installed():
        pytest.skip(f"no {runtime} here")
    found = chain(whole, HEADS, runtime, 1, 1.0, quiet)
    assert found.runtime == runtime
    assert found.ms == pytest.approx((1, 2, 4), rel=0.01)
    assert found.bare_ms == pytest.approx(3.5, rel=0.01)
    assert check(found, inputs[:4], quiet).first_divergence is None
    answers = found.answers(inputs[:4])
    assert answers.shape == (3, 4, 10)
    session = runtimes.get(runtime).open(whole.SerializeToString(), threads=1)
    for index, x in enumerate(inputs[:4]):
        final, first, second = session(x)
        expected = np.concatenate([first, second, final])
        if runtime == "openvino":  # differs by a step from build to build of a graph (docs/engine.md)
            np.testing.assert_allclose(answers[:, index], expected, atol=0.05 * np.abs(expected).max())
        else:
            assert answers[:, index].tobytes() == expected.tobytes()


def test_without_a_runtime_the_fastest_that_takes_all_stages(whole: ModelProto, times, monkeypatch) -> None:
    monkeypatch.setattr("shoestring.pipeline.chain.takes", lambda name, graph: name == "onnxruntime")
    assert chain(whole, HEADS, None, 1, 1.0, quiet).runtime == "onnxruntime"


def test_a_stage_that_computes_something_else_is_found(whole: ModelProto, inputs: list[np.ndarray], times) -> None:
    found = chain(whole, HEADS, "onnxruntime", 1, 1.0, quiet)
    other = ModelProto()
    other.CopyFrom(found.stages[1])
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "exit_1.classifier.weight_quantized")
    bias.raw_data = bytes(255 - byte for byte in bias.raw_data)
    broken = Chain(whole, (found.stages[0], other, found.stages[2]), found.bare, "onnxruntime", 1)
    with pytest.raises(NotMet, match="exit 1 gives other bytes"):
        check(broken, inputs[:2], quiet)


def test_a_layer_that_is_not_there(whole: ModelProto) -> None:
    with pytest.raises(BadInput, match="no node 'exit_7"):
        chain(whole, [HEADS[0], "exit_7.mix"], "onnxruntime", 1, 1.0, quiet)
