"""What graphs cost on paper, against the torch model they were exported from and against files counted by hand."""

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper
from torch import nn

from shoestring.core.counts import Counts, dense
from shoestring.core.elementwise import whole
from shoestring.core.errors import BadInput
from shoestring.core.layer import OTHER
from shoestring.deploy.counts import bits_of, counts
from shoestring.deploy.inventory import inventory
from shoestring.deploy.rewrite import tidy
from shoestring.graph.inventory import inventory as torch_inventory


def total(model: ModelProto) -> Counts:
    return sum(counts(model).values(), Counts())


def test_a_float_graph_costs_what_its_torch_model_does(network: nn.Module, floats: ModelProto) -> None:
    theirs = sum(whole(torch_inventory(network, (3, 16, 16)), {}).values(), Counts())
    assert total(floats) == theirs


def test_in_8_bits_the_dot_products_of_layers_are_narrow(floats: ModelProto, quantised: ModelProto) -> None:
    """The layers are those of the float graph. What is left in 32 bits: additions, the elementwise work, scales."""
    before, after = inventory(floats), inventory(quantised)
    names = [layer.name for layer in before if layer.weight]
    assert [layer.name for layer in after if layer.weight] == names
    narrow, wide = total(quantised), total(floats)
    layers = [layer for layer in before if layer.kind != OTHER]
    assert narrow.multiplies[8] == sum(layer.macs for layer in layers)
    assert narrow.adds == {32: wide.adds[32]}
    quantisers = sum(node.op_type == "QuantizeLinear" for node in quantised.graph.node)
    expected = sum(dense(layer, 8, 8).bits for layer in layers) + quantisers * (32 + 8)
    assert narrow.bits == expected
    saturated = sum(np.prod(layer.output) for layer in before if layer.activation in ("relu", "clip"))
    assert narrow.multiplies[32] == wide.multiplies[32] - narrow.multiplies[8] - saturated  # the quantisers do those


def test_a_layer_left_in_floats_stays_wide(floats: ModelProto, mixed: ModelProto) -> None:
    (depthwise,) = [layer for layer in inventory(floats) if layer.name == "depthwise.0"]
    found = counts(mixed)
    own = next(found[node.output[0]] for node in mixed.graph.node if node.name == "depthwise.0")
    assert own.multiplies[32] >= depthwise.macs and 8 not in own.multiplies
    assert own.bits == dense(depthwise).bits


def low_bits(weight: np.ndarray, top: int) -> tuple[dict[str, np.ndarray], list[NodeProto]]:
    """Constants and nodes: [1, 4, 2, 2], in codes 0 to `top`, through 1x1 filters of `weight` codes [3, 4, 1, 1]."""
    constants = {
        "s": np.float32(0.1),
        "z": np.uint8(0),
        "low": np.uint8(0),
        "top": np.uint8(top),
        "codes": weight.astype(np.int8),
        "scales": np.ones(3, np.float32),
        "bias": np.arange(3, dtype=np.int32),
    }
    return constants, [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("Clip", ["q", "low", "top"], ["c"], name="clip"),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], name="w", axis=0),
        helper.make_node("DequantizeLinear", ["bias", "scales"], ["b"], name="b", axis=0),
        helper.make_node("Conv", ["d", "w", "b"], ["y"], name="conv"),
    ]


@pytest.mark.parametrize(
    ("largest", "top", "bits", "reads"), [(7, 15, 4, 4), (-8, 15, 4, 4), (1, 3, 2, 2), (127, 15, 8, 4), (3, 255, 3, 8)]
)
def test_as_many_bits_as_the_codes_need(build, largest: int, top: int, bits: int, reads: int) -> None:
    weight = np.ones((3, 4, 1, 1))
    weight[0, 0], weight[:, 1] = largest, -1  # not all equal: that would be a sum
    constants, nodes = low_bits(weight, top)
    found = counts(tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2])))
    assert list(found) == ["y", "q"]  # the Clip of codes is no layer
    assert found["y"] == Counts(12 * bits + 3 * 64, 12, 0, {max(bits, reads): 48}, {32: 48})
    assert found["q"].bits == 32 + 8


def test_zeros_are_left_out_where_a_mask_is_cheaper(build) -> None:
    weight = np.full((3, 4, 1, 1), 7)
    weight[:2, :2] = weight[2, 2:] = 0  # half of 4 bits is more than one bit of mask
    constants, nodes = low_bits(weight, 15)
    own = counts(tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2])))["y"]
    assert own == Counts(6 * 4 + 3 * 64, 6, 12, {4: 24}, {32: 24})
    weight[:], weight[0, 0] = 7, 0  # one zero is not
    constants, nodes = low_bits(weight, 15)
    own = counts(tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2])))["y"]
    assert (own.nonzeros, own.mask_bits, own.multiplies) == (12, 0, {4: 48})


def test_zeros_in_blocks_have_a_mask_bit_a_block(build) -> None:
    """Three outputs are one block of 4x1 for each input."""
    weight = np.full((3, 4, 1, 1), 7)
    weight[:, 1:] = 0
    constants, nodes = low_bits(weight, 15)
    own = counts(tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2])))["y"]
    assert own == Counts(3 * 4 + 3 * 64, 3, 4, {4: 12}, {32: 12})
    weight[0, 0] = 0  # one zero more: to leave it out would take a mask of 12 bits
    constants, nodes = low_bits(weight, 15)
    own = counts(tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2])))["y"]
    assert (own.nonzeros, own.mask_bits) == (3, 4)


def test_blocks_of_a_matrix_product_run_over_its_outputs(build) -> None:
    """Its weight is in x out."""
    weight = np.ones((2, 8), np.float32)
    weight[0, :4] = 0
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    assert counts(tidy(build(nodes, {"w": weight}, [1, 2], [1, 8])))["y"].mask_bits == 4


def test_a_layer_of_equal_weights_is_a_sum(build) -> None:
    """It only adds, whatever its codes are; one weight an output would multiply."""
    weight = np.repeat(np.array([127, 64, -3]), 4).reshape(3, 4, 1, 1)
    constants, nodes = low_bits(weight, 255)
    own = counts(tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2])))["y"]
    assert own == Counts(3 * 64, 0, 0, {}, {32: 48})
    constants, nodes = low_bits(weight[:, :1], 255)
    own = counts(tidy(build(nodes, constants, [1, 1, 2, 2], [1, 3, 2, 2])))["y"]
    assert own.multiplies == {8: 12}


def test_a_weight_that_is_read_twice_is_stored_once(build) -> None:
    nodes = [helper.make_node("Conv", [x, "c.weight"], [y], name=y) for x, y in (("x", "a"), ("a", "y"))]
    weight = np.arange(1, 17, dtype=np.float32).reshape(4, 4, 1, 1)
    found = counts(tidy(build(nodes, {"c.weight": weight}, [1, 4, 2, 2], [1, 4, 2, 2])))
    first, second = found.values()
    assert (first.bits, second.bits) == (32 * 16, 0)
    assert first.multiplies == second.multiplies == {32: 64}


def test_sums_of_a_stated_width(build) -> None:
    constants, nodes = low_bits(np.full((3, 4, 1, 1), 7), 15)
    model = tidy(build(nodes, constants, [1, 4, 2, 2], [1, 3, 2, 2]))
    assert counts(model, accumulator_bits=16)["y"].adds == {16: 48}


def test_products_of_two_activations_and_constants(build) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"], name="a"),
        helper.make_node("Add", ["a", "shift"], ["y"], name="add"),
    ]
    found = counts(tidy(build(nodes, {"shift": np.ones(4, np.float32)}, [1, 4, 4], [1, 4, 4])))
    assert found == {"a": Counts(multiplies={32: 64}, adds={32: 48}), "y": Counts(bits=128, adds={32: 16})}


def test_linear_layers_in_packed_bits(build) -> None:
    packed = np.zeros((6, 2, 16), np.uint8)  # 6 x 64 weights of 4 bits in blocks of 32
    node = helper.make_node(
        *("MatMulNBits", ["x", "w", "s"], ["y"]),
        name="fc",
        domain="com.microsoft",
        K=64,
        N=6,
        bits=4,
        block_size=32,
        accuracy_level=4,
    )
    graph = helper.make_graph(
        [node],
        "packed",
        [helper.make_tensor_value_info("x", 1, [1, 64])],
        [helper.make_tensor_value_info("y", 1, [1, 6])],
        [
            helper.make_tensor("w", 2, packed.shape, packed.tobytes(), raw=True),
            helper.make_tensor("s", 1, [12], [1.0] * 12),
        ],
    )
    (own,) = counts(helper.make_model(graph)).values()
    assert own == Counts(4 * 384 + 32 * 12, 384, 0, {8: 384}, {32: 378})


@pytest.mark.parametrize(("codes", "bits"), [([0], 2), ([-2, 1], 2), ([2], 3), ([-4], 3), ([-128, 127], 8), ([128], 9)])
def test_bits_of_codes(codes: list[int], bits: int) -> None:
    assert bits_of(np.array(codes)) == bits


def test_an_operator_without_a_rule_is_refused(build) -> None:
    node = helper.make_node("Transpose", ["x"], ["y"], name="turn", perm=[0, 2, 1, 3, 4])
    with pytest.raises(BadInput, match="turn: no rule says what transpose costs"):
        counts(tidy(build([node], {}, [1, 4, 2, 3, 3], [1, 2, 4, 3, 3])))


def test_a_network_on_points(on_points: ModelProto, on_points8: ModelProto) -> None:
    """Distances stay floats when layers become 8 bits."""
    layers = inventory(on_points)
    floats, codes, products = total(on_points), total(on_points8), sum(layer.macs for layer in layers)
    assert floats == sum(whole(layers, {}).values(), Counts())
    assert codes.multiplies[8] == products
    distances = (64 * 32 + 32 * 16 + 16 * 8 + 8 * 4) * (5 + 4)  # of sampling and of neighbours, at each stage
    assert distances < codes.multiplies[32] < floats.multiplies[32] - products
