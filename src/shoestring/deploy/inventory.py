"""The layers of an ONNX graph: what `graph.inventory` says of a torch model, for files that have no torch model."""

import math
from collections import Counter
from collections.abc import Mapping

from onnx import ModelProto, NodeProto

from shoestring.core.layer import LINEAR, OTHER, Layer, conv_kind
from shoestring.deploy.rewrite import ACTIVATIONS, WEIGHTED, attributes, shapes

_SILENT = ("Identity", "Constant", "QuantizeLinear", "DequantizeLinear", "Flatten", "Reshape")


def inventory(model: ModelProto) -> tuple[Layer, ...]:
    """Layers in graph order, named after their nodes. An activation right after a weighted node belongs to it. Shapes
    must have been inferred."""
    known, constants = shapes(model), {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    weighted = {node.output[0] for node in model.graph.node if node.op_type in WEIGHTED}
    own = [
        node
        for node in model.graph.node
        if node.op_type not in _SILENT
        and not (node.op_type in ACTIVATIONS and node.input[0] in weighted and readers[node.input[0]] == 1)
    ]
    return tuple(_layer(node, known, constants) for node in own)


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
    return Layer(name, OTHER, op, given, output)
