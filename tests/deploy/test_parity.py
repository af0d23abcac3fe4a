"""The parity gate, shown to find what it is for: each fault is planted in a runtime that is otherwise exact."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, load_from_string, numpy_helper

from shoestring.core.contract import capabilities
from shoestring.core.device import WRONG
from shoestring.core.errors import NotMet
from shoestring.core.precision import FLOAT, INT8, INT8_SAFE16, Precision
from shoestring.deploy import parity, runtimes
from shoestring.deploy.parity import MEAN_STEPS, Parity, compare, gate
from shoestring.deploy.quantize import quantise
from shoestring.deploy.rewrite import tidy
from shoestring.measure.machine import isa

Build = Callable[..., ModelProto]
SATURATING = [
    name
    for name in runtimes.installed()
    if any((entry.feature, entry.verdict) == ("u8 x s8 full range", WRONG) for entry in capabilities(name, isa()))
]


@pytest.mark.parametrize(
    ("graph", "runtime"),
    [
        *(("quantised", name) for name in runtimes.installed()),
        *(("mixed", name) for name in runtimes.installed(runtimes.STOCK)),
    ],
)
def test_a_file_of_ours_passes(
    request: pytest.FixtureRequest, inputs: list[np.ndarray], graph: str, runtime: str
) -> None:
    model = request.getfixturevalue(graph)
    compared = compare(model, runtime, inputs[:4])
    gate(compared)
    assert compared.runtime == runtime
    layers = [edge.layer for edge in compared.edges]
    assert [layer for layer in layers if "/" not in layer][:2] == ["input_QuantizeLinear", "stem.1"]
    assert layers[-1] == "head" and {"project.0", "reduce", "expand", "grouped"} <= set(layers)
    assert len(layers) == 1 + sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    for edge in compared.edges:
        assert edge.max_steps <= 1, edge
        assert edge.mean_steps < 0.001 and edge.equal > 0.999, edge
    # Freely, the runtime computes float nodes as it likes to.
    floats16 = graph == "mixed" and runtimes.get(runtime).default_precision() == "bf16"
    assert compared.output < (0.1 if floats16 else 0.01)


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[ModelProto], None]) -> None:
    """Makes ONNX Runtime, when it is the deployed one, run a changed graph."""

    def get(name: str) -> Any:
        real = runtimes.get(name)

        def run(onnx: bytes, threads: int = 1, precision: str = "default", literal: bool = False) -> runtimes.Session:
            model = load_from_string(onnx)
            if not literal:
                change(model)
            how = {"threads": threads, "precision": precision, "literal": literal}
            session: runtimes.Session = real.open(model.SerializeToString(), **how)
            return session

        return SimpleNamespace(open=run)

    monkeypatch.setattr(parity, "get", get)


def scaled(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[ModelProto], None]:
    def apply(model: ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))

    return apply


def one_code(codes: np.ndarray) -> np.ndarray:
    codes.flat[5] = -127 if codes.flat[5] > 0 else 127
    return codes


FAULTS = {
    "a weight's code": ("project.0", "project.0.weight_quantized", one_code),
    "a weight's scale": ("grouped", "grouped.weight_scale", lambda scale: scale * np.float32(1.05)),
    "a bias": ("expand", "expand.bias_quantized", lambda bias: bias + np.int32(2000)),
    "an edge's zero point": ("project.0", "project.0_zero_point", lambda zero: zero + np.uint8(1)),
    "the last layer": ("head", "head.weight_scale", lambda scale: scale * np.float32(1.05)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_layer_that_diverges_is_named(
    quantised: ModelProto, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    layer, constant, change = FAULTS[fault]
    tampered(monkeypatch, scaled(constant, change))
    compared = compare(quantised, "onnxruntime", inputs[:4])
    edge = compared.first_divergence
    assert edge is not None and edge.layer == layer and edge.mean_steps > MEAN_STEPS
    if constant.startswith(layer) and "zero_point" not in constant:  # an edge's grid concerns its readers too
        assert [e.layer for e in compared.edges if e.mean_steps > MEAN_STEPS] == [layer]
    with pytest.raises(NotMet, match=f"onnxruntime diverges .* first at {layer}: ") as failed:
        gate(compared)
    assert "\n" not in str(failed.value)


def test_steps_are_counted_in_codes(
    quantised: ModelProto, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bias larger by just one step of the output's grid moves every code by one, where it does not saturate."""
    constants = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    step = constants["expand_scale"] / constants["expand.bias_quantized_scale"]
    moved = scaled("expand.bias_quantized", lambda bias: bias + np.rint(step).astype(np.int32))
    tampered(monkeypatch, moved)
    compared = compare(quantised, "onnxruntime", inputs)
    edge = next(e for e in compared.edges if e.layer == "expand")
    assert edge.max_steps == 1 and edge.equal < 0.1
    assert np.isclose(edge.mean_steps, 1 - edge.equal)


def test_a_constant_output_is_compared_too(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is the scale, and 0 divides nothing."""
    constants = {"a.weight": np.ones((1, 2, 1, 1), np.float32), "a.bias": np.full(1, 3, np.float32)}
    node = helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["y"])
    model = tidy(build([node], constants, [1, 2, 1, 1], [1, 1, 1, 1]))
    quantised = quantise(model, {"x": (0.0, 1.0), "y": (0.0, 5.0)}, {"a": INT8_SAFE16})
    inputs = [np.zeros((1, 2, 1, 1), np.float32)]
    assert compare(quantised, "onnxruntime", inputs).first_divergence is None
    tampered(monkeypatch, scaled("a.bias_quantized", lambda bias: bias * 2))
    edge = compare(quantised, "onnxruntime", inputs).edges[-1]
    assert np.isclose(edge.mean_steps, 255, rtol=1e-3)


def hard(build: Build, precision: Precision) -> ModelProto:
    """Neighbouring weights of one sign and activations near the top of their grid: what saturates 16 bits."""
    weight = np.random.default_rng(0).uniform(0.7, 1.0, (16, 16, 1, 1)).astype(np.float32)
    weight[:, 8:] *= -1
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["1"]),
        helper.make_node("Conv", ["1", "b.weight"], ["y"]),
    ]
    model = tidy(build(nodes, {"a.weight": weight, "b.weight": weight}, [1, 16, 8, 8], [1, 16, 8, 8]))
    ranges = {"x": (0.0, 1.0), "a": (-4.0, 4.0), "y": (-10.0, 10.0)}
    return quantise(model, ranges, {"a": precision, "b": precision})


BRIGHT = [np.random.default_rng(1).uniform(0.8, 1.0, (1, 16, 8, 8)).astype(np.float32)]


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_safe16_is_exact_on_every_processor(build: Build, runtime: str) -> None:
    gate(compare(hard(build, INT8_SAFE16), runtime, BRIGHT))


@pytest.mark.parametrize("runtime", SATURATING)
def test_the_full_range_diverges_where_products_saturate(build: Build, runtime: str) -> None:
    """The entry of the capability contract, measured."""
    compared = compare(hard(build, INT8), runtime, BRIGHT)
    with pytest.raises(NotMet, match=f"{runtime} diverges .* first at a: "):
        gate(compared)


@pytest.mark.parametrize("runtime", [name for name in runtimes.installed() if name not in SATURATING])
def test_the_full_range_is_exact_elsewhere(build: Build, runtime: str) -> None:
    gate(compare(hard(build, INT8), runtime, BRIGHT))


def test_outputs_that_move_without_any_layer_fail(
    quantised: ModelProto, inputs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fusion over several layers, say, that is undone when each is fed on its own."""
    negated = scaled("head.weight_scale", np.negative)  # the bias with it: the runtime scales sums

    def whole_network(model: ModelProto) -> None:
        if len(model.graph.input) == 1:  # every layer fed on its own: as many inputs as edges
            negated(model)

    tampered(monkeypatch, whole_network)
    compared = compare(quantised, "onnxruntime", inputs)
    assert compared.first_divergence is None
    literal = runtimes.get("onnxruntime").open(quantised.SerializeToString(), literal=True)
    logits = np.concatenate([literal(x)[0] for x in inputs]).astype(float)
    p, q = (np.exp(y) / np.exp(y).sum(axis=1, keepdims=True) for y in (logits, -logits))
    assert np.isclose(compared.moved, 100 * np.abs(p - q).sum(axis=1).mean() / 2, rtol=1e-4)
    assert np.isclose(compared.output, 2, rtol=1e-4)
    with pytest.raises(NotMet, match="every layer alone agrees, but the outputs of onnxruntime move") as failed:
        gate(compared)
    assert "\n" not in str(failed.value)


def test_nothing_compared_passes() -> None:
    gate(Parity("onnxruntime", (), 0.0))


@pytest.mark.parametrize(("mean", "passes"), [(0.004, True), (0.006, False)])
def test_an_edge_may_differ_by_a_few_codes_in_a_thousand(mean: float, passes: bool) -> None:
    edge = parity.EdgeParity("a", mean, 1, 0.99)
    assert (Parity("openvino", (edge,), 0.0).first_divergence is None) == passes


def deep(build: Build) -> ModelProto:
    """Two layers in 8 bits, four in floats, one in 8 bits: what bfloat16 rounds off in each float layer adds up."""
    rng = np.random.default_rng(0)
    weights = {f"{name}.weight": rng.normal(0, 0.25, (16, 16, 1, 1)).astype(np.float32) for name in "abcdefg"}
    edges = pairwise(["x", *"abcdef", "y"])
    nodes = [
        helper.make_node("Conv", [reads, name], [writes]) for (reads, writes), name in zip(edges, weights, strict=True)
    ]
    model = tidy(build(nodes, weights, [1, 16, 8, 8], [1, 16, 8, 8]))
    ranges = dict.fromkeys(("x", "a", "b", "f", "y"), (-4.0, 4.0))
    return quantise(model, ranges, dict.fromkeys("abcdefg", FLOAT) | dict.fromkeys("abg", INT8_SAFE16))


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_layers_in_floats_are_compared_in_float32(build: Build, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the runtime would lower them to bfloat16, codes behind them move by a good part of a step."""
    model, noise = deep(build), list(np.random.default_rng(1).normal(0, 1, (4, 1, 16, 8, 8)).astype(np.float32))
    compared = compare(model, runtime, noise)
    gate(compared)
    assert [edge.layer for edge in compared.edges][1:] == ["a", "b", "f", "g"]
    module = runtimes.get(runtime)
    opened = module.open

    def freely(onnx: bytes, precision: str = "default", **how: Any) -> runtimes.Session:
        session: runtimes.Session = opened(onnx, **how)
        return session

    monkeypatch.setattr(module, "open", freely)
    lowered = compare(model, runtime, noise)
    edges = {edge.layer: edge.mean_steps for edge in lowered.edges}
    assert (edges["f"] > 10 * MEAN_STEPS) == (module.default_precision() == "bf16")
    assert lowered.moved == compared.moved
