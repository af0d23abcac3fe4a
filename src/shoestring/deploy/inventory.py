"""The layers of an ONNX graph: what `graph.inventory` says of a torch model, for files that have no torch model."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from shoestring.core.layer import LINEAR, OTHER, Layer, conv_kind
from shoestring.deploy.geometry import is_place
from shoestring.deploy.rewrite import ACTIVATIONS, WEIGHTED, attributes, shapes

_SILENT = ("Identity", "Constant", "QuantizeLinear", "DequantizeLinear", "Flatten", "Reshape")
_POOLINGS = ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum")


def inventory(model: ModelProto) -> tuple[Layer, ...]:
    """Layers in graph order, named after their nodes. An activation right after a weighted node belongs to it; what
    only quantises is none. One without a bias whose float weights are all the same is a sum (`graph.sums`): `fixed`.
    Shapes must have been inferred."""
    sums = {tensor.name for tensor in model.graph.initializer if _of_a_sum(tensor)}
    return tuple(
        replace(layer, fixed=bool(layer.weight) and not layer.bias and node.input[1] in sums)
        for node, layer in layers_of_nodes(model)
    )


def layers_of_nodes(model: ModelProto) -> list[tuple[NodeProto, Layer]]:
    """The nodes that are layers, in graph order, each with its Layer (see `inventory`)."""
    known, constants = shapes(model), {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    codes: set[str] = set()
    weighted: dict[str, int] = {}  # what a weighted node writes: where it is in `found`
    found: list[tuple[NodeProto, Layer]] = []
    for node in model.graph.node:
        op, source = node.op_type, node.input[0] if node.input else ""
        if op == "DequantizeLinear" and source in constants:
            constants[node.output[0]] = constants[source]
        elif op == "QuantizeLinear" or (op == "Clip" and source in codes):
            codes.add(node.output[0])
        elif op in ACTIVATIONS and source in weighted and readers[source] == 1:
            owner, layer = found[weighted[source]]
            found[weighted[source]] = owner, replace(layer, activation=op.lower())
        elif op not in _SILENT:
            if op in WEIGHTED:
                weighted[node.output[0]] = len(found)
            found.append((node, _layer(node, known, constants)))
    return found


def _of_a_sum(tensor: TensorProto) -> bool:
    """Weights that are one number over and over; a weight that was taken out (`rewrite.strip_weights`) is none."""
    if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < 2 or tensor.doc_string == "stripped":
        return False
    values = numpy_helper.to_array(tensor)
    return bool(values.flat[0]) and not np.ptp(values)


def _layer(node: NodeProto, known: Mapping[str, tuple[int, ...]], constants: Mapping[str, tuple[int, ...]]) -> Layer:
    name, op, attrs = node.name, node.op_type, attributes(node)
    given = known.get(node.input[0], ())[1:] if node.input else ()
    output = known.get(node.output[0], ())[1:]
    weight = constants.get(node.input[1], ()) if len(node.input) > 1 else ()
    bias = len(node.input) > 2 and bool(node.input[2])
    if weight and op in ("Conv", "ConvTranspose"):
        groups = attrs.get("group", 1)
        stride = tuple(attrs.get("strides", (1,) * (len(weight) - 2)))
        if op == "Conv":
            macs, kind = math.prod(output) * math.prod(weight[1:]), conv_kind(weight, groups)
        else:  # stored as IOHW
            macs, kind = math.prod(given) * math.prod(weight[1:]), OTHER
            weight = (groups * weight[1], weight[0] // groups, *weight[2:])
        return Layer(name, kind, op, given, output, weight, stride, groups, bias, macs)
    if op in ("Gemm", "MatMul") and len(weight) == 2:
        weight = weight if attrs.get("transB") else weight[::-1]
        return Layer(name, LINEAR, op, given, output, weight, bias=bias, macs=math.prod(output) * weight[1])
    if op == "MatMul":
        return Layer(name, OTHER, op, given, output, macs=math.prod(output) * math.prod(given[-1:]))
    if op == "MatMulNBits":  # its weight is packed
        weight = (attrs["N"], attrs["K"])
        return Layer(name, LINEAR, op, given, output, weight, macs=math.prod(output) * weight[1])
    if is_place(node):  # looks at all points for each that it writes
        return Layer(name, OTHER, op, given, output, window=known.get(node.input[-1], (1, 1))[1])
    return Layer(name, OTHER, op, given, output, window=_window(op, attrs, given, output))


def _window(op: str, attrs: Mapping[str, Any], given: tuple[int, ...], output: tuple[int, ...]) -> int:
    """How many values one output of a pooling is made of: those under its kernel, or an equal share of the input."""
    if op not in _POOLINGS:
        return 1
    kernel = attrs.get("kernel_shape")
    return math.prod(kernel) if kernel else math.prod(given) // max(1, math.prod(output))
