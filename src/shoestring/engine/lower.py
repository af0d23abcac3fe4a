"""Lowers a quantised ONNX graph, in the QDQ normal form, to a program.

A walk through the graph in its order: every tensor of it becomes a value (`lowering.values`), and ops are written when
a quantiser says on which grid. What lies between a dequantise and a quantise is therefore never executed in floats: it
is a table, a bound, or part of an op. Shapes are those of one image: the first axis of the inputs is taken as 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from shoestring.engine.lowering import functions, layers, movement, pairs, points, pools
from shoestring.engine.lowering.builder import Builder
from shoestring.engine.lowering.fuse import fused
from shoestring.engine.lowering.graph import Node, Unsupported, nodes_of
from shoestring.engine.lowering.soft import softmax
from shoestring.engine.lowering.values import (
    INFINITY,
    Codes,
    Constant,
    Encoded,
    Floats,
    Grid,
    Indices,
    Pointwise,
    Value,
    array_of,
    shape_of,
)
from shoestring.engine.lowering.views import whole
from shoestring.engine.program import F32, U8, Program

Rule = Callable[[Node, Sequence[Value | None], Builder], Value | list[Value]]


def lower(model: ModelProto) -> Program:
    """The program of a graph. Raises Unsupported, a BadInput, naming the first node that the engine cannot execute."""
    with np.errstate(all="ignore"):  # scales that give infinities are refused, tables may hold them
        walk = _Walk(model)
        for node in nodes_of(model):
            walk.take(node)
        outputs = tuple(walk.output(value.name) for value in model.graph.output)
    builder = walk.builder
    ops = fused(builder.ops, builder.tensors, outputs, builder.pool)
    return Program(tuple(builder.tensors), tuple(ops), tuple(walk.inputs), outputs, builder.pool)


class _Walk:
    """The values of the graph's tensors so far."""

    def __init__(self, model: ModelProto) -> None:
        self.builder = Builder()
        self.values: dict[str, Value] = {tensor.name: Constant(array_of(tensor)) for tensor in model.graph.initializer}
        self.makers: dict[str, Node] = {}
        self.inputs = [self._input(value) for value in model.graph.input if value.name not in self.values]

    def take(self, node: Node) -> None:
        """Gives the outputs of a node their values."""
        rule = RULES.get(node.op)
        if rule is None:
            raise node.refused("the engine has no such operator; leave the network to onnxruntime")
        try:
            made = rule(node, [self.values[name] if name else None for name in node.inputs], self.builder)
        except Unsupported as error:
            raise node.refused(error) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise node.refused(f"it is malformed: {' '.join(repr(error).split())[:200]}") from None
        for name, value in zip(node.outputs, made if isinstance(made, list) else [made], strict=False):
            self.values[name] = value
            self.makers[name] = node

    def output(self, name: str) -> int:
        """The tensor of the program that holds the graph's output `name`."""
        value, builder = self.values.get(name), self.builder
        if value is None or isinstance(value, Constant | Encoded | Indices) or shape_of(value)[:1] != (1,):
            raise Unsupported(
                f"engine: the output {name} is not one of numbers for each image; its first axis must be the batch"
            )
        try:
            if not isinstance(value, Codes):
                value = builder.floats(value, name)
            return builder.output(value, name, self.inputs)
        except Unsupported as error:
            raise self.makers[name].refused(error) from None

    def _input(self, value: ValueInfoProto) -> int:
        given = value.type.tensor_type
        shape = tuple(axis.dim_value for axis in given.shape.dim)[1:]
        kinds: dict[int, int] = {TensorProto.FLOAT: F32, TensorProto.UINT8: U8}
        if given.elem_type not in kinds or not shape or min(shape) < 1:
            raise Unsupported(f"engine: the input {value.name} is not f32 or u8 of a known shape behind the batch")
        index = self.builder.tensor(value.name, shape, kinds[given.elem_type])
        kind = Floats if given.elem_type == TensorProto.FLOAT else Codes
        self.values[value.name] = kind(index, whole((1, *shape)))
        return index


def quantise(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x, grid = values[0], _grid(values)
    if isinstance(x, Constant | Encoded) or x is None:
        raise Unsupported("a weight is quantised at run time; store it as int8")
    return builder.quantised(x, grid, node.outputs[0])


def dequantise(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    x = values[0]
    if isinstance(x, Constant):
        zeros = values[2] if len(values) > 2 else Constant(np.zeros(1, x.array.dtype))
        if not (isinstance(values[1], Constant) and isinstance(zeros, Constant)) or "block_size" in node.attributes:
            raise Unsupported("its scales are no constants, one or one for each index of an axis")
        axis = node.attributes.get("axis", 1)
        return Encoded(x.array, values[1].array.ravel(), zeros.array.ravel(), axis % max(x.array.ndim, 1))
    if not isinstance(x, Codes):
        raise Unsupported("it reads no codes")
    grid = _grid(values)
    return Pointwise(x, grid.values(), grid)


def clip(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """Of codes (fewer than 8 bits) or floats."""
    x = values[0]
    if not isinstance(x, Codes):
        return functions.clip(node, values, builder)
    low, high = (int(min(max(bound, 0), 255)) for bound in functions.bounds(node, values))
    return builder.looked_up(x, np.clip(np.arange(256), low, high).astype(np.uint8), node.outputs[0])


def constant(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    for key, value in node.attributes.items():
        if key == "value":
            return Constant(numpy_helper.to_array(value))
        if key in ("value_float", "value_floats", "value_int", "value_ints"):
            return Constant(np.array(value, np.float32 if "float" in key else np.int64))
    raise Unsupported("its value is no tensor or number")


def one_term(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """Sum: of one term (which keeps a layer in floats in ONNX Runtime) the term itself, of two an Add."""
    if len(values) == 1 and values[0] is not None:
        return values[0]
    return pairs.binary(replace(node, op="Add"), values, builder)


def _grid(values: Sequence[Value | None]) -> Grid:
    scale, zero = values[1], values[2] if len(values) > 2 else Constant(np.zeros(1, np.uint8))
    if (
        not (isinstance(scale, Constant) and isinstance(zero, Constant))
        or scale.array.size != 1
        or zero.array.size != 1
    ):
        raise Unsupported("activations have one constant scale and zero point a tensor")
    if zero.array.dtype != np.uint8 or scale.array.dtype != np.float32:
        raise Unsupported(f"activations are uint8 with float32 scales, not {zero.array.dtype} with {scale.array.dtype}")
    step = np.float32(scale.array.item())
    if not 0 < step < INFINITY:
        raise Unsupported(f"its scale is {step}, not positive and finite")
    return Grid(step, zero.array.item())


RULES: Mapping[str, Rule] = {
    "QuantizeLinear": quantise,
    "DequantizeLinear": dequantise,
    "Constant": constant,
    "Clip": clip,
    "Relu": functions.clip,
    "Sum": one_term,
    "Conv": layers.conv,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    "com.microsoft.MatMulNBits": layers.matmul_nbits,
    "Concat": pairs.concat,
    "AveragePool": pools.average_pool,
    "MaxPool": pools.max_pool,
    "Identity": movement.identity,
    "Dropout": movement.identity,
    "Shape": movement.shape,
    "Transpose": movement.transpose,
    "Slice": movement.slices,
    "Split": movement.split,
    "Gather": movement.gather,
    "Expand": movement.expand,
    "Resize": movement.resize,
    "Upsample": movement.resize,
    "Pad": movement.pad,
    "Softmax": softmax,
    "shoestring.FarthestPoints": points.farthest,
    "shoestring.TakePoints": points.take,
    **dict.fromkeys(("shoestring.NearestPoints", "shoestring.PointsWithin"), points.nearest),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), movement.reshape),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"), pools.global_pool),
    **dict.fromkeys(functions.FUNCTIONS, functions.unary),
    **dict.fromkeys(functions.BINARY, pairs.binary),
}
