"""Whole networks, layer by layer: errors against the runtime's own tensors, residual branches, what a stop leaves."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, helper, numpy_helper

from shoestring.compress.reconstruct.layer import Asked
from shoestring.core.pattern import BlockPattern
from shoestring.core.precision import Precision
from shoestring.deploy.grids import stored
from shoestring.deploy.normal_form import violations
from shoestring.deploy.rewrite import infer
from shoestring.deploy.walk import Walk
from shoestring.deploy.weights import weights, with_weights
from shoestring.pipeline import reconstruct as module
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import EightBit, calibrate, loss, outputs
from shoestring.pipeline.reconstruct import Reconstructed, batches, beside, clipped, plain, reconstruct

RELU6 = ("stem.0", "blocks.0.depthwise.0", "blocks.1.depthwise.0")
PROJECTS = ("blocks.0.project.0", "blocks.1.project.0")
Run = Callable[..., Reconstructed]


def quiet(stage: str, share: float) -> None:
    pass


def tensors(model: ModelProto, names: list[str], inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Each [n, ...], by the runtime alone, every node as written."""
    copy = infer(model)
    have = {value.name for value in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in have)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [session.run(names, {session.get_inputs()[0].name: x}) for x in inputs]
    return [np.concatenate(part) for part in zip(*found, strict=True)]


@pytest.fixture
def run(original: Original, network: EightBit, inputs, tmp_path: Path) -> Run:
    """`run(bits=4)`: the small network at 8 bits, all layers reconstructed on eight inputs."""

    def make(
        bits: int = 8,
        quantised: ModelProto | None = None,
        kept: Mapping[str, np.ndarray] | None = None,
        pattern: BlockPattern | None = None,
        report: Callable[[str, float], None] = quiet,
    ) -> Reconstructed:
        few = {name: replace(precision, weights=bits) for name, precision in network.precisions.items()}
        made = replace(network, precisions=few).build() if quantised is None else quantised
        kept = kept or {}
        asked = {
            name: Asked(bits, "depthwise" not in name, pattern if name in kept else None) for name in network.precisions
        }
        return reconstruct(original.graph, made, asked, kept, inputs[:8], tmp_path, report)

    return make


@pytest.mark.parametrize("bits", [8, 4])
def test_errors_are_those_of_the_graphs_own_tensors(bits: int, run: Run, original: Original, inputs) -> None:
    """What a layer writes in the finished graph, against what the original writes there; where that is added to what
    another branch brings, the sums are compared. Nothing is worse than it was."""
    found = run(bits)
    ours, theirs = stored(found.graph), stored(original.graph)
    assert list(found.errors) == list(ours) == list(theirs)
    for name, (before, after) in found.errors.items():
        assert after <= before
        written = {"ours": [ours[name].writes], "theirs": [theirs[name].writes]}
        if name in PROJECTS:
            written["ours"].append(beside(found.graph, ours[name].writes))
            written["theirs"].append(beside(original.graph, theirs[name].writes))
        one = sum(tensors(found.graph, written["ours"], inputs[:8]))
        other = sum(tensors(original.graph, written["theirs"], inputs[:8]))
        if name in RELU6 and bits < 8:
            one, other = np.clip(one, 0, 6), np.clip(other, 0, 6)
        assert after == pytest.approx(np.square(one - other).mean(), rel=0.05, abs=1e-7), name
    assert violations(found.graph) == []
    assert found.inputs == 8


def test_few_bits_come_closer_to_the_original(run: Run, original: Original, network: EightBit, inputs) -> None:
    """At 4 bits, on inputs that nothing was fitted to."""
    made = run(4)
    expected = outputs(original.graph, "onnxruntime", inputs[8:])
    few = {name: replace(precision, weights=4) for name, precision in network.precisions.items()}
    raw = replace(network, precisions=few).build()
    assert loss(made.graph, expected, inputs[8:]) < 0.85 * loss(raw, expected, inputs[8:])
    for name, layer in stored(made.graph).items():
        steps = layer.scales.reshape(-1, *[1] * (layer.weight.ndim - 1))
        for row, step in zip(layer.weight * steps, steps.ravel(), strict=True):
            assert len(np.unique(row / step)) <= 16, name


def test_zeros_move_within_their_number(run: Run, original: Original, network: EightBit) -> None:
    """Pruned by magnitude, then chosen anew: as many blocks, other ones, and a smaller error than with the old ones."""
    pattern = BlockPattern(4, 1)
    before = weights(original.graph)
    kept = {}
    for name in PROJECTS:
        norms = pattern.norms(before[name])
        kept[name] = pattern.expand(norms > np.quantile(norms, 0.5, method="lower"), before[name].shape)
    sparse = with_weights(original.graph, {name: np.where(mask, before[name], 0) for name, mask in kept.items()})
    raw = EightBit(sparse, network.precisions, network.histograms, network.held_out).build()
    held, chosen = run(8, raw, kept), run(8, raw, kept, pattern)
    for name in PROJECTS:
        fixed, free = (stored(made.graph)[name].weight for made in (held, chosen))
        assert not fixed[~kept[name]].any()
        assert pattern.sparsity(free) == pytest.approx(0.5, abs=0.02)
        assert (pattern.norms(free) > 0).tolist() != (pattern.norms(fixed) > 0).tolist()
    first = PROJECTS[0]
    assert chosen.errors[first][1] < held.errors[first][1] < held.errors[first][0]


def test_a_run_that_was_stopped_goes_on(run: Run, monkeypatch, tmp_path: Path) -> None:
    """At the fourth layer: three are not fitted again, and the file is the same to the byte. Another run is beside it
    and is not refused."""
    straight = run()
    fits: list[int] = []

    def counted(*given):
        fits.append(1)
        return original_fit(*given)

    original_fit = module.fit
    monkeypatch.setattr(module, "fit", counted)
    for folder in tmp_path.iterdir():
        (folder / "last.pt").unlink()

    def stop(stage: str, share: float) -> None:
        if share > 0.45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(report=stop)
    assert len(fits) == 3
    run(4)
    assert len(fits) == 9
    again = run()
    assert len(fits) == 12
    assert again.graph == straight.graph
    assert again.errors == straight.errors
    assert len([path for path in tmp_path.iterdir() if re.fullmatch(r"reconstruct-[0-9a-f]{8}", path.name)]) == 2


def test_progress_is_told(run: Run) -> None:
    told: list[float] = []
    run(report=lambda stage, share: told.append(share))
    assert told == sorted(told)
    assert (told[0], told[-1], len(told)) == (0.0, 1.0, 7)


def test_only_what_was_asked_for(original: Original, network: EightBit, inputs, tmp_path: Path) -> None:
    """The other layers keep every byte; so do layers that stayed in floats."""
    mixed = network.build([name for name in network.precisions if name != "classifier"])
    asked = {name: Asked() for name in (*PROJECTS, "classifier", "nothing")}
    found = reconstruct(original.graph, mixed, asked, {}, inputs[:8], tmp_path, quiet)
    assert tuple(found.errors) == PROJECTS
    before = stored(mixed)
    for name, layer in stored(found.graph).items():
        if name not in PROJECTS:
            np.testing.assert_array_equal(layer.weight, before[name].weight)
            np.testing.assert_array_equal(layer.bias, before[name].bias)


def test_an_onnx_file_gets_the_same(onnx_files, run: Run, network: EightBit, inputs, tmp_path: Path) -> None:
    theirs = resolve(str(onnx_files["float"]))
    names = dict(zip(stored(theirs.graph), network.precisions, strict=True))  # an exporter has its own
    precisions = {name: network.precisions[own] for name, own in names.items()}
    quantised = calibrate(theirs.graph, inputs[:8], precisions).build()
    asked = {name: Asked(8, precision.safe16) for name, precision in precisions.items()}
    found = reconstruct(theirs.graph, quantised, asked, {}, inputs[:8], tmp_path / "other", quiet)
    ours = run()
    for name, own in names.items():  # codes differ: sums in another order find other ones that are as good
        assert found.errors[name] == pytest.approx(ours.errors[own], rel=0.1), name


ACTIVATIONS = {
    "Relu": ((), (0.0, np.inf)),
    "Clip": (("low", "high"), (0.0, 6.0)),
    "Clip open above": (("low",), (0.0, np.inf)),
    "Clip open below": (("", "high"), (-np.inf, 6.0)),
    "Clip to what is computed": (("low", "made"), None),
    "HardSwish": ((), None),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bounds_are_those_of_the_activation(name: str) -> None:
    ends, expected = ACTIVATIONS[name]
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Abs", ["high"], ["made"]),
        helper.make_node(name.split()[0], ["a", *ends], ["y"]),
    ]
    values = {"low": np.float32(0), "high": np.float32(6)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1])],
        [helper.make_tensor_value_info("y", 1, [1])],
        [helper.make_tensor(key, 1, [], [float(value)]) for key, value in values.items()],
    )
    model = helper.make_model(graph)
    assert clipped(model, "a") == expected
    model.graph.output.append(helper.make_tensor_value_info("a", 1, [1]))
    assert clipped(model, "a") is None  # somebody wants it as it is
    del model.graph.output[1]
    model.graph.node.append(helper.make_node("Neg", ["a"], ["b"]))
    assert clipped(model, "a") is None


def test_linear_layers_of_several_positions(inputs) -> None:
    """A MatMul over [1, T, C]: every position counts."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 5, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 5, 4])],
        [helper.make_tensor("w", 1, weight.shape, weight.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    given = [rng.normal(size=(1, 5, 6)).astype(np.float32) for _ in range(3)]
    layer, walk = stored(model)["m"], Walk(model, given)
    assert plain(layer)
    ((x, y),) = batches(walk, layer, walk, layer)
    assert (x.shape, y.shape) == ((1, 6, 15), (1, 4, 15))
    np.testing.assert_allclose(layer.weight @ x[0].numpy(), y[0].numpy(), rtol=1e-4, atol=1e-5)


def test_a_matmul_has_no_bias_and_gets_none(tmp_path: Path) -> None:
    """What would be its bias is added behind it: its weight alone is fitted, and nothing gets worse."""
    rng = np.random.default_rng(0)
    tensors_ = {
        "w": rng.normal(size=(6, 8)).astype(np.float32),
        "b": rng.normal(size=8).astype(np.float32),
        "v": rng.normal(size=(8, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("Add", ["a", "b"], ["c"], name="add"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="two"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in tensors_.items()],
    )
    model = infer(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    given = [rng.normal(1, 1, size=(1, 6)).astype(np.float32) for _ in range(40)]
    quantised = calibrate(model, given, dict.fromkeys(("one", "two"), Precision(4, 8, safe16=True))).build()
    found = reconstruct(model, quantised, dict.fromkeys(("one", "two"), Asked(4, True)), {}, given, tmp_path, quiet)
    assert [len(node.input) for node in found.graph.graph.node if node.op_type == "MatMul"] == [2, 2]
    ours, theirs = stored(found.graph), stored(model)
    for name, (before, after) in found.errors.items():
        (one,), (other,) = (
            tensors(found.graph, [ours[name].writes], given),
            tensors(model, [theirs[name].writes], given),
        )
        assert after == pytest.approx(np.square(one - other).mean(), rel=0.02)
        assert after < 0.9 * before


def test_padding_that_depends_on_the_input_is_left_alone(build_conv) -> None:
    assert plain(stored(build_conv())["c"])
    assert plain(stored(build_conv(auto_pad="VALID"))["c"])
    assert not plain(stored(build_conv(auto_pad="SAME_UPPER"))["c"])


@pytest.fixture
def build_conv() -> Callable[..., ModelProto]:
    def make(**attributes: object) -> ModelProto:
        nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="c", **attributes)]
        weight = helper.make_tensor("w", 1, [2, 2, 3, 3], [0.5] * 36)
        values = [helper.make_tensor_value_info(name, 1, None) for name in "xy"]
        return helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [weight]))

    return make
