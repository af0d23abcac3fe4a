"""The checker: silent on what we emit, and every rule, broken on purpose, is found with the node's name."""

from collections.abc import Callable

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy.normal_form import is_quantised, output_axis, require, violations
from shoestring.deploy.rewrite import initialisers


def node(model: ModelProto, name: str) -> NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def put(model: ModelProto, name: str, value: np.ndarray) -> None:
    """Another value for a constant, or a new constant."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    model.graph.initializer.append(numpy_helper.from_array(value, name))


def give(model: ModelProto, name: str, index: int, value: np.ndarray) -> None:
    """Another constant for one input of one node only."""
    put(model, "other", value)
    node(model, name).input[index] = "other"


def opset(model: ModelProto) -> None:
    model.opset_import[0].version = 20


def ir(model: ModelProto) -> None:
    model.ir_version = 9


def signed_activations(model: ModelProto) -> None:
    put(model, "project.0_zero_point", np.int8(0))


def activations_per_channel(model: ModelProto) -> None:
    put(model, "project.0_scale", np.ones(8, np.float32))


def dynamic_scale(model: ModelProto) -> None:
    node(model, "project.0_QuantizeLinear").input[1] = "output"


def no_zero_point(model: ModelProto) -> None:
    del node(model, "project.0_QuantizeLinear").input[2]


def weight_quantised_at_run_time(model: ModelProto) -> None:
    put(model, "w", initialisers(model)["mix.weight_quantized"].astype(np.float32))
    inputs = ["w", "mix.weight_scale", "mix.weight_zero_point"]
    made = helper.make_node("QuantizeLinear", inputs, ["late"], name="late", axis=0)
    node(model, "mix.weight_DequantizeLinear").input[0] = "late"
    model.graph.node.insert(0, made)


def shifted_relu(model: ModelProto) -> None:
    """A Relu that is kept, in front of a grid that has an offset."""
    relu = helper.make_node("Relu", ["project.0"], ["kept"], name="kept")
    quantise = node(model, "project.0_QuantizeLinear")
    quantise.input[0] = "kept"
    model.graph.node.insert(list(model.graph.node).index(quantise), relu)


def other_reader(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["project.0_QuantizeLinear_Output"], ["z"], name="cast", to=1))


def other_grid(model: ModelProto) -> None:
    give(model, "project.0_DequantizeLinear", 1, np.float32(0.5))


def unsigned_weight(model: ModelProto) -> None:
    put(model, "mix.weight_quantized", np.zeros((16, 12, 1, 1), np.uint8))
    put(model, "mix.weight_zero_point", np.zeros(16, np.uint8))


def shifted_weight(model: ModelProto) -> None:
    put(model, "mix.weight_zero_point", np.eye(1, 16, dtype=np.int8)[0])


def weight_scales_along_inputs(model: ModelProto) -> None:
    weight = initialisers(model)["project.0.weight_quantized"]
    assert weight.shape[0] == weight.shape[1]
    node(model, "project.0.weight_DequantizeLinear").attribute[0].i = 1


def one_weight_scale(model: ModelProto) -> None:
    put(model, "mix.weight_scale", np.float32(0.1))
    put(model, "mix.weight_zero_point", np.int8(0))


def float_input(model: ModelProto) -> None:
    node(model, "mix").input[0] = next(n.output[0] for n in model.graph.node if n.op_type == "Mul" and n.name != "mul")


def float_bias(model: ModelProto) -> None:
    give(model, "mix", 2, np.zeros(16, np.float32))


def short_bias(model: ModelProto) -> None:
    put(model, "mix.bias_quantized", np.zeros(16, np.int8))


def other_bias_scale(model: ModelProto) -> None:
    put(model, "mix.bias_quantized_scale", initialisers(model)["mix.bias_quantized_scale"] * np.float32(1.000001))


def clipped(model: ModelProto, low: np.generic, high: np.generic) -> None:
    """Puts a Clip behind the codes of an edge, in front of its DequantizeLinear."""
    put(model, "low", low), put(model, "high", high)
    read = node(model, "project.0_DequantizeLinear")
    made = helper.make_node("Clip", [read.input[0], "low", "high"], ["few"], name="few")
    model.graph.node.insert(list(model.graph.node).index(read), made)
    read.input[0] = "few"


def float_bounds(model: ModelProto) -> None:
    clipped(model, np.float32(0), np.float32(255))


def one_code(model: ModelProto) -> None:
    clipped(model, np.uint8(9), np.uint8(9))


def computed_bound(model: ModelProto) -> None:
    clipped(model, np.uint8(0), np.uint8(255))
    node(model, "few").input[2] = "project.0_QuantizeLinear_Output"


def one_bound(model: ModelProto) -> None:
    clipped(model, np.uint8(0), np.uint8(255))
    del node(model, "few").input[2]


def other_grid_behind_the_clip(model: ModelProto) -> None:
    clipped(model, np.uint8(0), np.uint8(255))
    other_grid(model)


def other_reader_behind_the_clip(model: ModelProto) -> None:
    clipped(model, np.uint8(0), np.uint8(255))
    model.graph.node.append(helper.make_node("Cast", ["few"], ["z"], name="cast", to=1))


RULES: dict[Callable[[ModelProto], None], str] = {
    opset: "the graph is opset 20, not 21",
    ir: "the graph is IR 9, not 10",
    signed_activations: "project.0_QuantizeLinear: activations are u8 per tensor",
    activations_per_channel: "project.0_QuantizeLinear: activations are u8 per tensor",
    dynamic_scale: "project.0_QuantizeLinear: activations are u8 per tensor",
    no_zero_point: "project.0_QuantizeLinear: activations are u8 per tensor",
    weight_quantised_at_run_time: "late: a weight is quantised at run time",
    shifted_relu: "project.0_QuantizeLinear: after Relu the zero point is",
    other_reader: "project.0_QuantizeLinear: is read by Cast cast",
    other_grid: "project.0_QuantizeLinear: is read by DequantizeLinear project.0_DequantizeLinear",
    float_bounds: "few: codes are clipped between two u8 constants",
    one_code: "few: 9..9 is no range of codes",
    computed_bound: "few: codes are clipped between two u8 constants",
    one_bound: "few: codes are clipped between two u8 constants",
    other_grid_behind_the_clip: "project.0_QuantizeLinear: is read by DequantizeLinear project.0_Dequant",
    other_reader_behind_the_clip: "project.0_QuantizeLinear: is read by Cast cast",
    unsigned_weight: "mix: the weight is stored as uint8, not int8",
    shifted_weight: "mix: the weight's zero point is not 0",
    weight_scales_along_inputs: "project.0: the weight has 8 scales along axis 1",
    one_weight_scale: "mix: the weight has 1 scales",
    float_input: "mix: the weight is quantised, its input is not",
    float_bias: "mix: the bias is not stored as int32",
    short_bias: "mix: the bias is not stored as int32",
    other_bias_scale: "mix: the bias's scale is not the input's scale times the weight's",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_broken_rule_is_found(quantised: ModelProto, rule: Callable[[ModelProto], None]) -> None:
    broken = ModelProto()
    broken.CopyFrom(quantised)
    rule(broken)
    found = violations(broken)
    assert found and found[0].startswith(RULES[rule])
    with pytest.raises(BadInput, match="normal form: ") as refused:
        require(broken)
    assert RULES[rule] in str(refused.value) and "\n" not in str(refused.value)


def test_a_relu_may_stay_in_front_of_a_grid_from_zero(quantised: ModelProto) -> None:
    model = ModelProto()
    model.CopyFrom(quantised)
    shifted_relu(model)
    put(model, "project.0_zero_point", np.uint8(0))
    assert not violations(model)


@pytest.mark.parametrize("bounds", [(0, 15), (10, 25), (200, 203)])
def test_codes_below_8_bits_may_lie_beside_the_zero_point(quantised: ModelProto, bounds: tuple[int, int]) -> None:
    """Of tensors that are never 0; padding has the zero point's own code."""
    model = ModelProto()
    model.CopyFrom(quantised)
    clipped(model, np.uint8(bounds[0]), np.uint8(bounds[1]))
    assert not violations(model)


def test_what_we_emit_is_in_the_form(quantised: ModelProto, mixed: ModelProto, floats: ModelProto) -> None:
    for model in (quantised, mixed, floats):  # a float graph has nothing that could be wrong
        assert violations(model) == []
        require(model)


def test_is_quantised(quantised: ModelProto, mixed: ModelProto, floats: ModelProto) -> None:
    assert is_quantised(quantised) and is_quantised(mixed) and not is_quantised(floats)


def test_output_axis() -> None:
    assert output_axis(helper.make_node("Conv", ["x", "w"], ["y"]), 4) == 0
    assert output_axis(helper.make_node("Gemm", ["x", "w"], ["y"]), 2) == 1
    assert output_axis(helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), 2) == 0
    assert output_axis(helper.make_node("MatMul", ["x", "w"], ["y"]), 3) == 2
