"""A quantised graph back in floats, against the float original with its weights rounded by hand."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.precision import INT8_SAFE16, Precision
from shoestring.deploy import runtimes
from shoestring.deploy.dequantise import dequantise
from shoestring.deploy.matmul_nbits import lower
from shoestring.deploy.normal_form import is_quantised
from shoestring.deploy.quantize import activations, quantise
from shoestring.deploy.rewrite import initialisers, shapes, tidy

Build = Callable[..., ModelProto]


def run(model: ModelProto, x: np.ndarray) -> np.ndarray:
    return runtimes.get("onnxruntime").open(model.SerializeToString())(x)[0]


def rounded(floats: ModelProto, quantised: ModelProto) -> ModelProto:
    """The float original with every weight and bias on its grid."""
    codes, result = initialisers(quantised), ModelProto()
    result.CopyFrom(floats)
    for tensor in result.graph.initializer:
        stored = codes.get(f"{tensor.name}_quantized")
        if stored is not None:
            kind = "_quantized_scale" if stored.dtype == np.int32 else "_scale"
            scale = codes[f"{tensor.name}{kind}"]
            value = stored * scale.reshape(-1, *[1] * (stored.ndim - 1))
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return result


def generous(floats: ModelProto, precisions: Mapping[str, Precision]) -> ModelProto:
    """Quantised over ranges that nothing leaves, so that only the weights differ."""
    ranges = dict.fromkeys(activations(floats, precisions), (-50.0, 50.0))
    ranges |= dict.fromkeys((name for name in ranges if name.endswith("/clip")), (0.0, 6.0))
    relus = [node.output[0] for node in floats.graph.node if node.op_type == "Relu"]
    ranges |= {name: (0.0, 50.0) for name in relus if name in ranges}
    return quantise(floats, ranges, precisions)


def test_it_is_the_original_with_rounded_weights(
    floats: ModelProto, precisions: dict[str, Precision], inputs: list[np.ndarray]
) -> None:
    """ReLU and ReLU6, which the quantisers had taken over, are there again."""
    quantised = generous(floats, precisions)
    expected, got = rounded(floats, quantised), dequantise(quantised)
    for x in inputs:
        assert np.allclose(run(got, x), run(expected, x), rtol=1e-4, atol=1e-5)
    assert not np.allclose(run(floats, inputs[0]), run(expected, inputs[0]), atol=1e-5)  # the rounding is seen


@pytest.mark.parametrize("graph", ["quantised", "mixed"])
def test_no_integer_node_is_left(request: pytest.FixtureRequest, floats: ModelProto, graph: str) -> None:
    model = dequantise(request.getfixturevalue(graph))
    assert not is_quantised(model)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT64}
    operators = sorted(node.op_type for node in model.graph.node if node.op_type not in ("Relu", "Clip", "Sum"))
    assert operators == sorted(node.op_type for node in floats.graph.node if node.op_type not in ("Relu", "Clip"))
    clips = sum(node.op_type == "Clip" for node in model.graph.node)
    assert clips <= 4  # one for each activation of the original: the baseline is not slowed down
    assert shapes(model)["output"] == (1, 5)


def test_close_to_the_float_network(floats: ModelProto, quantised: ModelProto, inputs: list[np.ndarray]) -> None:
    got, expected = (np.concatenate([run(m, x) for x in inputs]) for m in (tidy(dequantise(quantised)), floats))
    assert np.linalg.norm(got - expected) < 0.03 * np.linalg.norm(expected)


def test_signs_are_followed_through_pools_and_sums(build: Build) -> None:
    """Where nothing can be negative, no Clip is put."""
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["1"]),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("MaxPool", ["2"], ["3"], kernel_shape=[1, 1]),
        helper.make_node("Add", ["2", "3"], ["4"]),
        helper.make_node("Conv", ["4", "a.weight"], ["y"]),
    ]
    weight = np.random.default_rng(0).standard_normal((4, 4, 1, 1), dtype=np.float32)
    model = tidy(build(nodes, {"a.weight": weight}, [1, 4, 4, 4], [1, 4, 4, 4]))
    precisions = {"a": INT8_SAFE16, "a:2": INT8_SAFE16}
    ranges = dict.fromkeys(activations(model, precisions), (0.0, 8.0)) | {"y": (-9.0, 9.0)}
    operators = [node.op_type for node in dequantise(quantise(model, ranges, precisions)).graph.node]
    assert operators == ["Conv", "Clip", "MaxPool", "Add", "Conv"]


@pytest.mark.parametrize(
    ("zero", "low", "high", "kept"), [(0, 0, 15, (0.0, 3.0)), (4, 4, 9, (0.0, 1.0)), (8, 0, 15, None)]
)
def test_clipped_codes(build: Build, zero: int, low: int, high: int, kept: tuple[float, float] | None) -> None:
    """A Clip of codes from the zero point up is the activation that it has swallowed; another only follows from few
    bits, which a float network does not have."""
    constants = {"s": np.float32(0.2), "z": np.uint8(zero), "lo": np.uint8(low), "hi": np.uint8(high)}
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("QuantizeLinear", ["n", "s", "z"], ["q"]),
        helper.make_node("Clip", ["q", "lo", "hi"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("Abs", ["d"], ["y"]),
    ]
    model = dequantise(build(nodes, constants, [1, 99], [1, 99]))
    assert not is_quantised(model)
    x = np.linspace(-9, 9, 99, dtype=np.float32)[None]
    expected = np.abs(-x if kept is None else np.clip(-x, *kept))
    assert np.allclose(run(model, x), expected, rtol=1e-6)


def test_low_bit_products(build: Build) -> None:
    codes = np.random.default_rng(0).integers(-8, 8, (6, 40)).astype(np.int8)
    constants = {"s": np.float32(0.1), "z": np.uint8(100), "w": codes, "ws": np.full(6, 0.5, np.float32)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"], axis=0),
        helper.make_node("Gemm", ["d", "wd"], ["y"], name="fc", transB=1),
    ]
    model = dequantise(lower(build(nodes, constants, [1, 40], [1, 6]), {"fc": 4}, "onnxruntime"))
    assert [node.op_type for node in model.graph.node] == ["MatMul"] and shapes(model)["y"] == (1, 6)
    x = np.random.default_rng(1).standard_normal((1, 40), dtype=np.float32)
    assert np.allclose(run(model, x), x @ (codes * 0.5).T, rtol=1e-5, atol=1e-5)


def test_constants_of_other_quantisers(build: Build) -> None:
    """One scale for all, zero points, axes counted from the end, a code that is an output."""
    codes = np.random.default_rng(0).integers(0, 255, (3, 4), np.uint8)
    scales, zeros = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.array([1, 2, 3, 250], np.uint8)
    constants = {"c": codes, "s": scales, "z": zeros, "s1": np.float32(0.5), "z1": np.uint8(9)}
    nodes = [
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"], axis=-1),
        helper.make_node("DequantizeLinear", ["c", "s1", "z1"], ["e"]),
        helper.make_node("DequantizeLinear", ["c", "s1"], ["f"]),
        helper.make_node("Sum", ["d", "e", "f", "x"], ["g"]),
        helper.make_node("QuantizeLinear", ["g", "s1", "z1"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s1", "z1"], ["y"]),
    ]
    model = dequantise(build(nodes, constants, [3, 4], [3, 4]))
    assert [node.op_type for node in model.graph.node] == ["Sum", "Identity"]
    exact = (codes - zeros.astype(float)) * scales + (codes - 9.0) * 0.5 + codes * 0.5
    assert np.allclose(run(model, np.zeros((3, 4), np.float32)), exact, rtol=1e-6)


def test_what_has_no_float_form_is_refused(build: Build) -> None:
    def refuse(node: object, constants: dict[str, np.ndarray], match: str) -> None:
        model = ModelProto()
        model.CopyFrom(build([helper.make_node("Relu", ["x"], ["y"])], constants, [2, 4], [2, 4]))
        model.graph.node.append(node)
        with pytest.raises(BadInput, match=match) as refused:
            dequantise(model)
        assert "\n" not in str(refused.value)

    for operator in ("QLinearConv", "QLinearAdd", "ConvInteger", "MatMulInteger", "QGemm"):
        refuse(helper.make_node(operator, ["x"], ["z"], name="n"), {}, f"n: {operator} has no float form")
    blocked = {"c": np.zeros((2, 4), np.int8), "s": np.ones((2, 2), np.float32)}
    refuse(
        helper.make_node("DequantizeLinear", ["c", "s"], ["z"], name="n", block_size=2), blocked, "n: only one scale"
    )
    refuse(helper.make_node("DequantizeLinear", ["c", "x"], ["z"], name="n"), blocked, "n: only one scale")


def test_what_is_taken_and_largest_stays_above_zero(on_points: ModelProto, clouds: list[np.ndarray]) -> None:
    """One Clip for each ReLU that quantisers had taken over, none behind a maximum over neighbours."""
    layers = [node.name for node in on_points.graph.node if node.op_type in ("Conv", "Gemm")]
    quantised = generous(on_points, dict.fromkeys(layers, INT8_SAFE16))
    got = dequantise(quantised)
    kinds = [[node.op_type for node in model.graph.node] for model in (on_points, got)]
    assert kinds[1].count("Clip") == kinds[0].count("Relu") and not {"Relu", "QuantizeLinear"}.intersection(kinds[1])
    assert [function.name for function in got.functions] == [function.name for function in on_points.functions]
    assert np.allclose(run(got, clouds[0]), run(rounded(on_points, quantised), clouds[0]), rtol=1e-4, atol=1e-5)
