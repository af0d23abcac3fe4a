"""Borders of small graphs made by hand: which there are, and who pays for them."""

import pytest
from onnx import ModelProto, TensorProto, helper

from shoestring.pipeline.borders import crossed, edges, priced
from shoestring.pipeline.original import Original

SIZES = {("a", "b"): 100, ("b", "c"): 300, ("a", "c"): 300, ("c", "d"): 50}


def graph(*nodes: tuple[str, str, list[str], str]) -> ModelProto:
    """Of (name, operator, inputs, output), all of 1x2x3x4."""
    made = [helper.make_node(op, inputs, [output], name=name) for name, op, inputs, output in nodes]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, 4]) for name in ("x", nodes[-1][3]))
    return helper.make_model(helper.make_graph(made, "hand", [x], [y]), opset_imports=[helper.make_opsetid("", 21)])


def test_what_is_read_through_other_nodes() -> None:
    """The first layer reads no other; of a sum both branches are read."""
    model = graph(("a", "Relu", ["x"], "1"), ("n", "Neg", ["1"], "2"), ("b", "Relu", ["2"], "3"),
                  ("s", "Add", ["3", "2"], "4"), ("c", "Relu", ["4"], "5"))  # fmt: skip
    assert edges(model, ["a", "b", "c"]) == {("a", "b"): 24, ("b", "c"): 24, ("a", "c"): 24}
    assert edges(model, ["c"]) == {}


def test_of_a_network(original: Original) -> None:
    names = [layer.name for layer in original.layers if layer.weight]
    one, two, last = 16 * 16 * 16, 16 * 16 * 16, 16
    stem, d0, p0, d1, p1, end = names
    assert edges(original.graph, names) == {
        (stem, d0): one, (d0, p0): one, (stem, d1): two, (p0, d1): two, (d1, p1): two,
        (stem, end): last, (p0, end): last, (p1, end): last,
    }  # fmt: skip


def test_shared_out_by_size() -> None:
    """Of `a` and `c` in fp32 all borders but the one between them are crossed: 450 numbers take 9 ms."""
    found = priced(SIZES, {"a", "c"}, 9.0)
    assert found == pytest.approx({pair: size / 50 for pair, size in SIZES.items()})
    assert crossed(found, {"a", "c"}) == pytest.approx(9.0)
    assert crossed(found, {"d"}) == crossed(found, {"a", "b", "c"}) == pytest.approx(1.0)
    assert crossed(found, set()) == crossed(found, {"a", "b", "c", "d"}) == 0


def test_noise_and_networks_without_borders() -> None:
    """Less than nothing is nothing."""
    assert crossed(priced(SIZES, {"a"}, -1.0), {"a"}) == 0
    assert priced(SIZES, set(), 5.0) == priced({}, {"a"}, 5.0) == {}
