"""Layers of files, decomposed as those of torch models are: same functions, names and inventory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from shoestring.compress import structured_conv
from shoestring.compress.structured_conv import Structured
from shoestring.compress.structured_conv.settings import Kept
from shoestring.core.errors import NoEffectWarning
from shoestring.deploy import runtimes
from shoestring.deploy.check import check_graph
from shoestring.deploy.export import export
from shoestring.deploy.grids import stored
from shoestring.deploy.inventory import inventory
from shoestring.deploy.rewrite import shapes, tidy
from shoestring.deploy.weights import weights, with_weights
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.models.point_mlp import PointMLP
from shoestring.pipeline.decomposing import decomposed, hindrances, module_of, pads
from shoestring.pipeline.original import Original, remade, resolve
from shoestring.pipeline.post_training import outputs

RNG = np.random.default_rng(0)
TEXT = "n=2:c=0.5:all:stem.0=c0.7n2:classifier=c0.5"


def assigned(original: Original, text: str) -> dict[str, Structured]:
    return structured_conv.assign(original.of_kinds(structured_conv.CARD.kinds), structured_conv.parse(text))


def told(original: Original) -> list[tuple[object, ...]]:
    """What both can know of layers with weights."""
    layers = (layer for layer in original.layers if layer.weight)
    return [(la.name, la.kind, la.input, la.output, la.weight, la.stride, la.macs, la.fixed) for la in layers]


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def run(original: Original, inputs: Sequence[np.ndarray]) -> np.ndarray:
    return outputs(original.graph, "onnxruntime", inputs)


@pytest.fixture
def file(original: Original, tmp_path: Path) -> Original:
    """The small network as our own exporter writes it."""
    (tmp_path / "ours.onnx").write_bytes(original.graph.SerializeToString())
    return resolve(str(tmp_path / "ours.onnx"))


@pytest.mark.parametrize("text", [TEXT, "n=2:all", "c=0.1:blocks.*.project.0=c0.1:classifier=c0.1"])
def test_as_the_torch_model_is(original: Original, file: Original, inputs, text: str) -> None:
    assert original.model is not None
    settings = assigned(original, text)
    baked = structured_conv.apply(original.model, settings).bake()
    torch_way = remade(original, baked)  # type: ignore[arg-type]  # captured
    ours, residuals = decomposed(file, assigned(file, text))
    assert set(residuals) == {name for name, own in settings.items() if own.kept != Kept()}
    assert apart(run(ours, inputs), run(torch_way, inputs)) < 1e-5
    with torch.no_grad():
        expected = np.concatenate([baked(torch.from_numpy(x)).numpy() for x in inputs])
    assert apart(run(ours, inputs), expected) < 1e-5
    assert told(ours) == told(torch_way)
    names = [[node.name for node in made.graph.graph.node] for made in (ours, torch_way)]
    assert names[0] == names[1]
    assert sum(layer.fixed for layer in ours.layers) == len([n for n in names[0] if n.endswith(("_pool", "_total"))])
    own = weights(ours.graph)
    for name, value in weights(torch_way.graph).items():
        np.testing.assert_allclose(own[name], value, rtol=1e-4, atol=1e-6)


def test_files_of_other_tools(onnx_files, inputs) -> None:
    """Of an older exporter: the same layers, and residuals of a random weight (0.745 for n = 2)."""
    for name in ("float", "old"):
        theirs = resolve(str(onnx_files[name]))
        ours, residuals = decomposed(theirs, assigned(theirs, "n=2:all"))
        assert [path.count("depthwise") > 0 for path in residuals] == [True, True]
        assert {f"{path}_pool" for path in residuals} == {layer.name for layer in ours.layers if layer.fixed}
        assert all(0.6 < residual < 0.85 for residual in residuals.values())
        assert ours.input == theirs.input
        assert run(ours, inputs).shape == run(theirs, inputs).shape


@pytest.mark.parametrize("text", ["n=2:all:stem.0=n2", TEXT])
def test_what_is_structured_already_stays_the_same_function(file: Original, inputs, text: str) -> None:
    """Where the weights allow, nothing is lost."""
    settings, layers, known = assigned(file, text), stored(file.graph), shapes(file.graph)
    projected = {}
    for name, own in settings.items():
        (*_, layer) = module_of(layers[name], known[layers[name].reads])
        count = own.kept.channels(layers[name].weight.shape[1])
        projected[name] = structured_conv.project(layer, count, own.kept.n).numpy()
    exact = replace(file, graph=with_weights(file.graph, projected))
    ours, residuals = decomposed(exact, settings)
    assert max(residuals.values()) < 1e-6
    assert apart(run(ours, inputs), run(exact, inputs)) < 1e-5


def test_what_it_left_is_a_file_like_others(file: Original, inputs, tmp_path: Path) -> None:
    """Read again, sums are known as what they are."""
    ours, _ = decomposed(file, assigned(file, TEXT))
    (tmp_path / "again.onnx").write_bytes(ours.graph.SerializeToString())
    again = resolve(str(tmp_path / "again.onnx"))
    assert again.layers == ours.layers
    with pytest.warns(NoEffectWarning, match="structured changed no layer"):
        same, residuals = decomposed(again, assigned(again, "n=2:all"))
    assert same is again
    assert residuals == {}


def layer(node: NodeProto, constants: Mapping[str, np.ndarray], x: tuple[int, ...]) -> Original:
    """A network of one layer, between two activations."""
    nodes = [helper.make_node("Relu", ["x"], ["r"]), node, helper.make_node("Relu", ["z"], ["y"])]
    return network(nodes, constants, x)


def network(nodes: Sequence[NodeProto], constants: Mapping[str, np.ndarray], x: tuple[int, ...]) -> Original:
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = tidy(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    onnx.checker.check_model(made)
    return Original("layer", made, inventory(made), x[1:])


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "even": ((6, 4, 3, 3), (1, 4, 9, 11), {"pads": [1, 1, 1, 1]}),
    "uneven, with a stride": ((6, 4, 3, 3), (1, 4, 10, 9), {"pads": [0, 1, 1, 0], "strides": [2, 2]}),
    "of the size of its kernel": ((6, 4, 3, 5), (1, 4, 1, 2), {"pads": [1, 2, 1, 1]}),
    "same": ((6, 4, 4, 3), (1, 4, 9, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    "same, more in front": ((6, 4, 4, 3), (1, 4, 9, 8), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "valid": ((6, 4, 3, 3), (1, 4, 9, 8), {"auto_pad": "VALID", "dilations": [2, 1]}),
    "dilated": ((6, 4, 3, 3), (1, 4, 9, 11), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    "groups": ((6, 2, 3, 3), (1, 4, 9, 11), {"pads": [1, 1, 1, 1], "group": 2}),
    "depthwise": ((4, 1, 5, 5), (1, 4, 9, 11), {"pads": [2, 2, 2, 2], "group": 4, "strides": [2, 2]}),
    "one axis": ((6, 4, 3), (1, 4, 12), {"pads": [1, 1]}),
    "one axis, uneven": ((6, 4, 3), (1, 4, 12), {"pads": [0, 2], "strides": [2]}),
}


@pytest.mark.parametrize(
    ("case", "kept"),
    [
        *((case, Kept(n=2)) for case in CONVOLUTIONS),
        *((case, Kept(c=0.5, n=2)) for case in ("even", "uneven, with a stride", "one axis, uneven")),
        ("of the size of its kernel", Kept(c=0.2)),
    ],
    ids=str,
)
def test_convolutions_of_every_kind(case: str, kept: Kept) -> None:
    """Against the original with the projected weight, in the runtime."""
    weight, x, how = CONVOLUTIONS[case]
    bias = {"a.bias": floats(weight[0])} if kept.c is None else {}
    node = helper.make_node("Conv", ["r", "a.weight", *bias], ["z"], **how)
    check(layer(node, {"a.weight": floats(*weight), **bias}, x), kept)


LINEAR: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "outputs first": ("Gemm", (5, 8), (1, 8), {"transB": 1}),
    "inputs first": ("Gemm", (8, 5), (1, 8), {}),
    "a product": ("MatMul", (8, 5), (1, 8), {}),
    "of a sequence": ("MatMul", (8, 5), (1, 7, 8), {}),
    "of patches": ("MatMul", (8, 5), (4, 7, 8), {}),
}


@pytest.mark.parametrize(
    ("case", "share"), [*((case, 0.5) for case in LINEAR), ("inputs first", 0.1), ("of patches", 0.1)]
)
def test_linear_layers_of_every_kind(case: str, share: float) -> None:
    op, weight, x, how = LINEAR[case]
    bias = {"a.bias": floats(1, 5)} if op == "Gemm" and share == 0.5 else {}
    node = helper.make_node(op, ["r", "a.weight", *bias], ["z"], **how)
    check(layer(node, {"a.weight": floats(*weight), **bias}, x), Kept(c=share))


def check(original: Original, kept: Kept) -> None:
    """Layer `a` decomposed computes what it does with its weight projected, padding and all."""
    assert hindrances(original) == {}
    ours, residuals = decomposed(original, {"a": Structured(kept)})
    assert residuals["a"] > 0.1
    a, known = stored(original.graph)["a"], shapes(original.graph)
    module = module_of(a, known[a.reads])
    weight = structured_conv.project(module[-1], kept.channels(a.weight.shape[1]), kept.n).numpy()
    x = np.abs(floats(*known["x"]))
    session = [
        runtimes.get("onnxruntime").open(graph.SerializeToString())
        for graph in (with_weights(original.graph, {"a": weight}), ours.graph)
    ]
    expected, found = (run(x)[0] for run in session)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert {layer.name for layer in ours.layers if layer.weight} <= {"a", "a_pool", "a_total"}


def test_padding_in_numbers() -> None:
    """What a word says of padding, against the shapes that onnx infers and torch's own."""
    for case, (weight, x, how) in CONVOLUTIONS.items():
        original = layer(helper.make_node("Conv", ["r", "a.weight"], ["z"], **how), {"a.weight": floats(*weight)}, x)
        a, known = stored(original.graph)["a"], shapes(original.graph)
        begins, ends = pads(a, known[a.reads])
        with torch.no_grad():
            made = module_of(a, x)(torch.zeros(x))
        assert tuple(made.shape) == known[a.writes], case
        assert all(np.less_equal(np.abs(np.subtract(begins, ends)), 2)), case


def test_what_cannot_be_made_a_module_stays() -> None:
    """With the reason."""
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["1"]),
        helper.make_node("Conv", ["1", "shared.weight"], ["2"], pads=[1] * 4),
        helper.make_node("Conv", ["2", "shared.weight"], ["3"], pads=[1] * 4),
        helper.make_node("Relu", ["bias"], ["made"]),
        helper.make_node("Conv", ["3", "moved.weight", "made"], ["4"], pads=[1] * 4),
        helper.make_node("Flatten", ["4"], ["5"]),
        helper.make_node("Gemm", ["5", "scaled.weight"], ["6"], alpha=0.5),
        helper.make_node("Gemm", ["6", "wide.weight", "one"], ["y"]),
    ]
    kernels = {f"{name}.weight": floats(4, 4, 3, 3) for name in ("first", "shared", "moved")}
    more = {"scaled.weight": floats(64, 5), "wide.weight": floats(5, 5), "one": floats(1), "bias": floats(4)}
    original = network(nodes, kernels | more, (1, 4, 6, 6))
    assert hindrances(original) == {
        "shared": "other layers read their weights too, or these are no constants",
        "shared:2": "other layers read their weights too, or these are no constants",
        "moved": "their bias is not one constant for each output",
        "scaled": "they scale or transpose what they read",
        "wide": "their bias is not one constant for each output",
    }
    ours, residuals = decomposed(original, assigned(original, "n=2:c=0.5:first=n2:wide=c0.5"))
    assert list(residuals) == ["first"]
    assert [node.name for node in ours.graph.graph.node][:2] == ["first_pool", "first"]


def test_a_network_that_is_not_known_to_the_last_axis() -> None:
    node = helper.make_node("Conv", ["r", "a.weight"], ["z"])
    original = layer(node, {"a.weight": floats(4, 4, 3, 3, 3)}, (1, 4, 5, 5, 5))
    assert hindrances(original) == {"a": "their kernels have 3 axes"}
    flat = layer(helper.make_node("MatMul", ["r", "a.weight"], ["z"]), {"a.weight": floats(8, 5)}, (8,))
    assert hindrances(flat) == {"a": "the shape of what they read is not known"}


def test_modules_are_the_layers(file: Original) -> None:
    """In torch, on what the runtime gave them."""
    layers, known = stored(file.graph), shapes(file.graph)
    for a in layers.values():
        module = module_of(a, known[a.reads])
        assert isinstance(module[-1], nn.Conv2d | nn.Linear)
        assert np.array_equal(module[-1].weight.detach().numpy(), a.weight)


def test_a_file_on_points(tmp_path: Path) -> None:
    """Layers among samples and groups are decomposed like others; the functions of the file stay."""
    torch.manual_seed(0)
    model = capture(PointMLP(3, width=8, neighbours=4, points=64).eval(), (64, 3))
    (tmp_path / "points.onnx").write_bytes(export(fold(model), (64, 3)).SerializeToString())
    theirs = resolve(str(tmp_path / "points.onnx"))
    names = {"stages.3.feature.0", "stages.0.before.0.reduce.0", "head.0"}
    settings = {name: own for name, own in assigned(theirs, "c=0.5").items() if name in names}
    ours, residuals = decomposed(theirs, settings)
    assert set(residuals) == names
    check_graph(ours.graph.SerializeToString(), "points")
    assert [function.name for function in ours.graph.functions] == [f.name for f in theirs.graph.functions]
    clouds = list(np.random.default_rng(0).uniform(-1, 1, (3, 1, 64, 3)).astype(np.float32))
    baked = structured_conv.apply(model, settings).bake()
    with torch.no_grad():
        expected = np.concatenate([baked(torch.from_numpy(x)).numpy() for x in clouds])
    assert apart(run(ours, clouds), expected) < 1e-5
