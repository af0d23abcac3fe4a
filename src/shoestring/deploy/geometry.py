"""Sampling and neighbours in a file: four functions in standard ONNX, which every runtime computes to the same indices.

A graph calls them in the domain `shoestring` (version 1), one node each. xyz: float32 [B, N, 3]; indices are int64.

    FarthestPoints(xyz; count) -> [B, count]
    NearestPoints(centres, xyz; count) -> [B, M, count]
    PointsWithin(centres, xyz; count, radius) -> [B, M, count]
    TakePoints(x [B, N, C], index [B, M] or [B, M, K]) -> [B, M, C] or [B, M, K, C]

`geometry.reference` says what they compute. Coordinates are split between the squares and their sum, because runtimes
that fuse a product with a sum round once where the reference rounds twice, and points change places.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

DOMAIN, VERSION = "shoestring", 1
FARTHEST, NEAREST, WITHIN, TAKE = "FarthestPoints", "NearestPoints", "PointsWithin", "TakePoints"
LOOP, INSIDE = "/Loop", "/inside"  # ends of the names that `inlined` gives
INDICES = (FARTHEST, NEAREST, WITHIN)  # what these write are places, not values
OPSET = 21  # of the bodies


def define(model: ModelProto) -> None:
    """Gives `model`, in place, the functions that its nodes call, and no others of ours."""
    names = called(model)
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend([*kept, *(function for name, function in functions().items() if name in names)])
    versions = {entry.domain: entry for entry in model.opset_import}
    if names and DOMAIN not in versions:
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    elif not names and DOMAIN in versions:
        model.opset_import.remove(versions[DOMAIN])


def functions() -> dict[str, FunctionProto]:
    """The definitions, by name: always the same bytes."""
    return {made.name: made for made in (_farthest(), _nearest(), _within(), _take())}


def is_ours(function: FunctionProto) -> bool:
    """Whether it is one of them, to the byte."""
    own = functions().get(function.name)
    return own is not None and own.SerializeToString(deterministic=True) == function.SerializeToString(
        deterministic=True
    )


def is_place(node: NodeProto) -> bool:
    """Whether what `node` writes are indices of points."""
    return node.domain == DOMAIN and node.op_type in INDICES


def values_of(node: NodeProto) -> list[str]:
    """What a node reads, but the places of points."""
    return [name for name in (node.input[:1] if (node.domain, node.op_type) == (DOMAIN, TAKE) else node.input) if name]


def called(model: ModelProto) -> set[str]:
    """The names of those that `model` calls."""
    return {node.op_type for node in model.graph.node if node.domain == DOMAIN}


def on_points(model: ModelProto) -> bool:
    """Whether `model` calls any of them."""
    return bool(called(model))


def inlined(model: ModelProto) -> ModelProto:
    """A copy that calls no function, for runtimes that know none. What was a call's is `CALL/OPERATOR`, and `/inside`
    behind that in the body of a loop."""
    copy: ModelProto = inliner.inline_local_functions(model)
    calls = {node.output[0]: node.name for node in model.graph.node if node.domain == DOMAIN}
    own = {name for node in model.graph.node for name in node.output} - set(calls)
    owners: dict[str, str] = {}
    taken: set[str] = set()
    for node in reversed(copy.graph.node):  # what a call computes is read inside of it, but for what it writes
        if own.intersection(node.output):
            continue
        call = next((found for name in node.output if (found := calls.get(name) or owners.get(name))), "")
        node.name = _unused(f"{call}/{node.op_type}", taken)
        for attribute in node.attribute:
            for inner in attribute.g.node:
                inner.name = f"{_unused(f'{call}/{inner.op_type}', taken)}{INSIDE}"
                owners.update(dict.fromkeys(inner.input, call))
        owners.update(dict.fromkeys(node.input, call))
    return copy


def named_inside(onnx_bytes: bytes) -> bytes:
    """A file that calls our functions as `inlined` makes it, any other as it is: what a profile can be read by."""
    model = onnx.load_from_string(onnx_bytes)
    return bytes(inlined(model).SerializeToString()) if on_points(model) else onnx_bytes


def _unused(name: str, taken: set[str]) -> str:
    found = next(own for own in (name, *(f"{name}:{count}" for count in range(2, 99))) if own not in taken)
    taken.add(found)
    return found


def _farthest() -> FunctionProto:
    """A Loop over the points to keep: the distances of all from the last one, and the farthest from all so far."""
    near = helper.make_tensor_value_info("near", TensorProto.FLOAT, ["B", 1, "N"])
    last = helper.make_tensor_value_info("last", TensorProto.INT64, ["B", 1, 1])
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    step = helper.make_graph(
        [
            helper.make_node("GatherND", ["xyz", "last"], ["point"], batch_dims=1),
            helper.make_node("Transpose", ["point"], ["centre"], perm=[0, 2, 1]),
            *_squared("centre", "axes", "distance"),
            helper.make_node("Min", ["near", "distance"], ["nearer"]),
            helper.make_node("ArgMax", ["nearer"], ["next"], axis=2, keepdims=1),  # the first of equal ones
            helper.make_node("Identity", ["last"], ["picked"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "step",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), go, near, last],
        [
            _renamed(go, "on"),
            _renamed(near, "nearer"),
            _renamed(last, "next"),
            _renamed(last, "picked"),
        ],
    )
    nodes = [
        _given("turns", "count", AttributeProto.INT),
        _ints("first", [0]),
        _ints("one", [1]),
        _ints("ones", [1, 1]),
        _ints("tail", [2, 3]),
        _constant("always", np.array(True)),
        helper.make_node("Transpose", ["xyz"], ["axes"], perm=[0, 2, 1]),
        helper.make_node("Shape", ["xyz"], ["batch"], start=0, end=1),
        helper.make_node("Shape", ["xyz"], ["points"], start=1, end=2),
        helper.make_node("Concat", ["batch", "one", "points"], ["row"], axis=0),
        helper.make_node("Concat", ["batch", "ones"], ["single"], axis=0),
        helper.make_node("ConstantOfShape", ["row"], ["far"], value=_tensor(np.array([np.inf], np.float32))),
        helper.make_node("ConstantOfShape", ["single"], ["start"], value=_tensor(np.array([0], np.int64))),
        helper.make_node("Loop", ["turns", "always", "far", "start"], ["nearest", "end", "picks"], body=step),
        helper.make_node("Squeeze", ["picks", "tail"], ["in_turn"]),
        helper.make_node("Transpose", ["in_turn"], ["by_cloud"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["turns", "first"], ["kept"]),
        helper.make_node("Concat", ["batch", "kept"], ["shape"], axis=0),
        helper.make_node("Reshape", ["by_cloud", "shape"], ["index"]),  # says how many
    ]
    return _function(FARTHEST, ["xyz"], nodes, ["count"])


def _nearest() -> FunctionProto:
    return _function(NEAREST, ["centres", "xyz"], [*_ranked(), _shaped("order")])


def _within() -> FunctionProto:
    nodes = [
        *_ranked(),
        _given("reach", "radius", AttributeProto.FLOAT),
        _ints("two", [2]),
        helper.make_node("Mul", ["reach", "reach"], ["limit"]),
        helper.make_node("LessOrEqual", ["squares", "limit"], ["inside"]),
        helper.make_node("Slice", ["order", "first", "one", "two"], ["closest"]),
        helper.make_node("Where", ["inside", "order", "closest"], ["found"]),
        _shaped("found"),
    ]
    return _function(WITHIN, ["centres", "xyz"], nodes, ["count", "radius"])


def _take() -> FunctionProto:
    nodes = [
        _ints("end", [-1]),
        helper.make_node("Unsqueeze", ["index", "end"], ["places"]),
        helper.make_node("GatherND", ["x", "places"], ["rows"], batch_dims=1),
    ]
    return _function(TAKE, ["x", "index"], nodes, [], "rows")


def _ranked() -> list[NodeProto]:
    """`order` [B, M, count] and `squares`: the nearest of `xyz` to each of `centres` and how far they are."""
    return [
        _given("kept", "count", AttributeProto.INT),
        _ints("first", [0]),
        _ints("one", [1]),
        _ints("last", [3]),
        helper.make_node("Unsqueeze", ["kept", "first"], ["count_of"]),
        helper.make_node("Transpose", ["centres"], ["centre_axes"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["centre_axes", "last"], ["centre"]),  # [B, 3, M, 1]
        helper.make_node("Transpose", ["xyz"], ["point_axes"], perm=[0, 2, 1]),
        _ints("two_", [2]),
        helper.make_node("Unsqueeze", ["point_axes", "two_"], ["axes"]),  # [B, 3, 1, N]
        *_squared("centre", "axes", "distances"),
        helper.make_node("Squeeze", ["distances", "one"], ["table"]),
        helper.make_node("TopK", ["table", "count_of"], ["squares", "order"], axis=2, largest=0, sorted=1),
        helper.make_node("Shape", ["centres"], ["rows"], start=0, end=2),
        helper.make_node("Concat", ["rows", "count_of"], ["shape"], axis=0),
    ]


def _shaped(index: str) -> NodeProto:
    """Tells shape inference, which does not look into attributes, how many there are."""
    return helper.make_node("Reshape", [index, "shape"], ["index"])


def _squared(centre: str, axes: str, distance: str) -> list[NodeProto]:
    """(dx*dx + dy*dy) + dz*dz, coordinates on axis 1 (length 1 after it)."""
    return [
        helper.make_node("Sub", [axes, centre], ["apart"]),
        helper.make_node("Mul", ["apart", "apart"], ["square"]),
        helper.make_node("Split", ["square"], ["xx", "yy", "zz"], axis=1, num_outputs=3),
        helper.make_node("Add", ["xx", "yy"], ["flat"]),
        helper.make_node("Add", ["flat", "zz"], [distance]),
    ]


def _function(
    name: str,
    inputs: Sequence[str],
    nodes: Sequence[NodeProto],
    given: Sequence[str] = ("count",),
    output: str = "index",
) -> FunctionProto:
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_function(DOMAIN, name, list(inputs), [output], list(nodes), opsets, list(given))


def _given(output: str, attribute: str, kind: "AttributeProto.AttributeType") -> NodeProto:
    """A scalar constant that is an attribute of the call."""
    node = helper.make_node("Constant", [], [output])
    value = "value_int" if kind == AttributeProto.INT else "value_float"
    node.attribute.append(AttributeProto(name=value, ref_attr_name=attribute, type=kind))
    return node


def _ints(output: str, values: list[int]) -> NodeProto:
    return helper.make_node("Constant", [], [output], value_ints=values)


def _constant(output: str, value: np.ndarray) -> NodeProto:
    return helper.make_node("Constant", [], [output], value=_tensor(value))


def _tensor(value: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(value)


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
