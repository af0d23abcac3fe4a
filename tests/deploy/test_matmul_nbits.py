"""Linear layers at 4 and 2 bits: against the product with the dequantised weight, within what the arithmetic allows."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput, NotMet
from shoestring.deploy import parity, runtimes
from shoestring.deploy.check import check_graph
from shoestring.deploy.matmul_nbits import DOMAIN, as_floats, dequantised, fault, lower, tolerance
from shoestring.deploy.normal_form import require, violations
from shoestring.deploy.rewrite import initialisers

Build = Callable[..., ModelProto]
SCALE, ZERO = np.float32(0.02), 120


def linear(build: Build, inputs: int, outputs: int, bits: int, operator: str = "Gemm", bias: bool = True) -> ModelProto:
    """An 8-bit linear layer "fc" in the normal form, batch 2, whose codes fit into `bits`."""
    rng = np.random.default_rng(inputs)
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs)).astype(np.int8)
    scales = rng.uniform(0.01, 0.02, outputs).astype(np.float32)
    constants = {
        "s": SCALE, "z": np.uint8(ZERO), "scales": scales, "zeros": np.zeros(outputs, np.int8),
        "codes": codes if operator == "Gemm" else np.ascontiguousarray(codes.T),
        "bias": rng.integers(-1000, 1000, outputs).astype(np.int32), "steps": SCALE * scales,
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xd"], name="dequantise"),
        helper.make_node(
            "DequantizeLinear", ["codes", "scales", "zeros"], ["w"], name="w", axis=int(operator == "MatMul")
        ),
        helper.make_node("DequantizeLinear", ["bias", "steps"], ["b"], name="b", axis=0),
        helper.make_node(operator, ["xd", "w", *(["b"] if bias else [])], ["y"], name="fc",
                         **({"transB": 1} if operator == "Gemm" else {})),
    ]  # fmt: skip
    if not bias:
        del nodes[3]
    model = build(nodes, constants, [2, inputs], [2, outputs])
    require(model)
    return model


def layer(model: ModelProto) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == "MatMulNBits")


def exact(model: ModelProto, x: np.ndarray) -> np.ndarray:
    """The 8-bit layer in float64."""
    c = initialisers(model)
    read = (np.clip(np.rint(x / SCALE) + ZERO, 0, 255) - ZERO) * SCALE.astype(float)
    weight = c["codes"] if len(c["codes"]) == len(c["scales"]) else c["codes"].T
    product = read @ (weight * c["scales"][:, None].astype(float)).T
    used = any("bias" in node.input for node in model.graph.node)
    return product + (c["bias"] * c["steps"].astype(float) if used else 0)


def inputs(size: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, size)).astype(np.float32)


SIZES = [(128, 16, 4), (1280, 100, 4), (1280, 100, 2), (100, 7, 3), (33, 5, 2), (576, 10, 2), (1, 1, 4), (300, 9, 4)]


def opened(model: ModelProto, runtime: str) -> runtimes.Session:
    """A session; skips where OpenVINO has no primitive for 2 bits, as on processors that compute in bfloat16."""
    try:
        return runtimes.get(runtime).open(model.SerializeToString())
    except BadInput as refusal:
        if runtime == "openvino" and "could not create a primitive" in str(refusal):
            pytest.skip(f"OpenVINO has no such product on this processor: {refusal}")
        raise


@pytest.mark.parametrize("runtime", runtimes.installed())
@pytest.mark.parametrize(("size", "outputs", "bits"), SIZES)
def test_it_is_the_dequantised_product(build: Build, size: int, outputs: int, bits: int, runtime: str) -> None:
    """Blocks that the inputs do not fill, 3 bits stored in 4, all codes of each width."""
    model = linear(build, size, outputs, bits)
    low = lower(model, {"fc": bits}, runtime)
    assert not violations(low)
    check_graph(low.SerializeToString(), "low")
    x = inputs(size)
    got, expected = opened(low, runtime)(x)[0], exact(model, x)
    read = (np.clip(np.rint(x / SCALE) + ZERO, 0, 255) - ZERO) * SCALE
    allowed = tolerance(layer(low), read, initialisers(low))
    assert allowed.shape == got.shape and np.all(np.abs(got - expected) <= allowed + 1e-5 * np.abs(expected).max())
    if size > 100:
        assert allowed.mean() < 0.06 * expected.std()  # it would see a fault of a few per cent


@pytest.mark.parametrize(("operator", "bias"), [("Gemm", True), ("Gemm", False), ("MatMul", False)])
def test_every_form_of_a_linear_layer(build: Build, operator: str, bias: bool) -> None:
    model = linear(build, 64, 10, 4, operator, bias)
    low = lower(model, {"fc": 4}, "onnxruntime")
    kinds = [node.op_type for node in low.graph.node]
    assert kinds == ["QuantizeLinear", "DequantizeLinear", "MatMulNBits", *(["Add"] if bias else [])]
    assert layer(low).name == "fc" and layer(low).domain == DOMAIN
    assert sorted(t.data_type for t in low.graph.initializer if t.dims and t.dims[0] > 1).count(TensorProto.INT8) == 0
    codes, scales = initialisers(model)["codes"], initialisers(model)["scales"]
    weight = (codes if operator == "Gemm" else codes.T) * scales[:, None]
    assert np.array_equal(dequantised(layer(low), initialisers(low)), weight)
    x = inputs(64)
    for form in (as_floats(low), as_floats(as_floats(low))):
        assert "MatMulNBits" not in {node.op_type for node in form.graph.node}
        got = runtimes.get("onnxruntime").open(form.SerializeToString())(x)[0]
        assert np.allclose(got, exact(model, x), rtol=1e-5, atol=1e-5)


def test_sizes(build: Build) -> None:
    """A quarter and an eighth of 8 bits' double, plus a scale for each block."""
    for bits, stored in ((4, 4), (3, 4), (2, 2)):
        low = lower(linear(build, 1280, 100, bits), {"fc": bits}, "onnxruntime")
        packed, scales = (initialisers(low)[name] for name in layer(low).input[1:])
        assert packed.nbytes == 1280 * 100 * stored // 8 and scales.nbytes == 4 * 100 * 10


@pytest.mark.parametrize(("bits", "runtime"), [({}, "onnxruntime"), ({"fc": 5}, "onnxruntime"), ({"fc": 4}, "tensorrt"),
                                               ({"other": 4}, "openvino")])  # fmt: skip
def test_what_stays_8_bit(build: Build, bits: dict[str, int], runtime: str) -> None:
    model = linear(build, 64, 10, 4)
    assert lower(model, bits, runtime) == model


def test_codes_beyond_their_bits_are_refused(build: Build) -> None:
    with pytest.raises(BadInput, match=r"^fc: codes -8\.\.7 go beyond 2 bits"):
        lower(linear(build, 64, 10, 4), {"fc": 2}, "onnxruntime")


def change(model: ModelProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor).copy()), name))


def setting(name: str, value: int) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        next(item for item in layer(model).attribute if item.name == name).i = value

    return edit


def no_width(model: ModelProto) -> None:
    kept = [item for item in layer(model).attribute if item.name != "bits"]
    del layer(model).attribute[:]
    layer(model).attribute.extend(kept)


FAULTS: dict[str, Callable[[ModelProto], None]] = {
    "are not all given": no_width,
    "3 bits in blocks of 64": setting("bits", 3),
    "4 bits in blocks of 60": setting("block_size", 60),
    "4 bits in blocks of -64": setting("block_size", -64),
    "for -1 x 64": setting("N", -1),
    r"its weight is \[10, 1, 32\], not bytes \[10, 16384": setting("K", 2**20),
    r"its weight is \[10, 1, 32\], not bytes \[4611686018427387904": setting("N", 2**62),
    r"it has \[5\] scales": lambda m: change(m, "fc/scales", lambda scales: scales[:5]),
    "zero points, an order or a bias": lambda m: layer(m).input.append("fc/packed"),
    r"its weight is \[\]": lambda m: layer(m).input.__setitem__(1, "xd"),
    r"its weight is \[10, 1, 31\]": lambda m: change(m, "fc/packed", lambda packed: packed[..., :31]),
}


@pytest.mark.parametrize("why", FAULTS)
def test_other_forms_of_it_are_named(build: Build, why: str) -> None:
    low = lower(linear(build, 64, 10, 4), {"fc": 4}, "onnxruntime")
    FAULTS[why](low)
    with pytest.raises(BadInput, match=f"normal form: fc: .*{why}"):
        require(low)
    with pytest.raises(BadInput, match=f"^fc: .*{why}") as refused:
        as_floats(low)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("why", [why for why in FAULTS if "zero points" not in why])
def test_malformed_ones_are_refused_before_a_runtime_sees_them(build: Build, why: str) -> None:
    low = lower(linear(build, 64, 10, 4), {"fc": 4}, "onnxruntime")
    if why == r"its weight is \[\]":
        change(low, "fc/packed", lambda packed: packed[:0, 0, 0])
        why = r"its weight is \[0\]"
    else:
        FAULTS[why](low)
    with pytest.raises(BadInput, match=rf"^x: node 'fc' \(com.microsoft.MatMulNBits\): .*{why}"):
        check_graph(low.SerializeToString(), "x")


def test_a_huge_weight_is_not_unpacked(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    low = lower(linear(build, 64, 10, 4), {"fc": 4}, "onnxruntime")
    monkeypatch.setattr("shoestring.deploy.matmul_nbits.MAX_FILLED", 1000)
    with pytest.raises(BadInput, match="fc: its weight is 10 x 64; at most 1000"):
        as_floats(low)


@pytest.mark.parametrize("runtime", runtimes.installed())
@pytest.mark.parametrize("bits", [4, 2])
def test_the_parity_gate_knows_its_rounding(build: Build, runtime: str, bits: int) -> None:
    low = lower(linear(build, 1280, 100, bits), {"fc": bits}, runtime)
    opened(low, runtime)
    compared = parity.compare(low, runtime, [inputs(1280)[:1].repeat(2, 0), -inputs(1280)])
    parity.gate(compared)
    assert [edge.layer for edge in compared.edges] == ["quantise", "fc", "fc/sum"]
    assert fault(layer(low), {t.name: t for t in low.graph.initializer}) is None


FALSE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fc/scales": lambda scales: scales * np.float32(1.1),
    "fc/packed": lambda packed: packed ^ np.uint8(0x80),
}


@pytest.mark.parametrize("constant", FALSE)
def test_the_parity_gate_finds_faults_beyond_it(build: Build, monkeypatch: pytest.MonkeyPatch, constant: str) -> None:
    """The runtime executes another weight than the file's."""
    low = lower(linear(build, 1280, 100, 4), {"fc": 4}, "onnxruntime")
    wrong = ModelProto()
    wrong.CopyFrom(low)
    change(wrong, constant, FALSE[constant])
    reference = parity.matmul_nbits.as_floats(low)
    monkeypatch.setattr(parity.matmul_nbits, "as_floats", lambda model: reference)
    with pytest.raises(NotMet, match="diverges from the fake-quantised model first at fc: "):
        parity.gate(parity.compare(wrong, "onnxruntime", [inputs(1280)]))


@pytest.mark.skipif("engine" not in runtimes.installed(), reason="the engine was not built")
def test_the_engine_reads_codes_only(build: Build) -> None:
    """Where ONNX Runtime would quantise floats on the fly."""
    low = lower(linear(build, 64, 10, 4, bias=False), {"fc": 4}, "engine")
    layer(low).input[0] = "x"
    with pytest.raises(BadInput, match=r"engine .* refuses the graph: fc .*MatMulNBits\): what it reads is not quan"):
        runtimes.get("engine").open(low.SerializeToString())


@pytest.mark.skipif("engine" not in runtimes.installed(), reason="the engine was not built")
@pytest.mark.parametrize("bits", [4, 2])
def test_the_engine_computes_exactly(build: Build, bits: int) -> None:
    """Nothing is quantised on the fly: no more than float32 rounds off. The bias is in steps of the accumulator."""
    model = linear(build, 1280, 100, bits)
    low = lower(model, {"fc": bits}, "engine")
    got = runtimes.get("engine").open(low.SerializeToString())(inputs(1280))[0]
    np.testing.assert_allclose(got, exact(model, inputs(1280)), rtol=1e-5, atol=1e-4)
