"""The layers of an ONNX graph: what `graph.inventory` says of a torch model, for files that have no torch model."""

import math
from collections.abc import Mapping

from onnx import ModelProto, NodeProto

from shoestring.core.layer import LINEAR, OTHER, Layer, conv_kind
from shoestring.deploy.rewrite import attributes, shapes

_SILENT = ("Identity", "Constant", "QuantizeLinear", "DequantizeLinear", "Flatten", "Reshape")


def inventory(model: ModelProto) -> tuple[Layer, ...]:
    """Layers in graph order, named after their nodes. Shapes must have been inferred."""
    known = shapes(model)
    return tuple(_layer(node, known) for node in model.graph.node if node.op_type not in _SILENT)


def _layer(node: NodeProto, known: Mapping[str, tuple[int, ...]]) -> Layer:
    given, output = known.get(node.input[0], ())[1:], known.get(node.output[0], ())[1:]
    weight = known.get(node.input[1], ()) if len(node.input) > 1 else ()
    bias = len(node.input) > 2 and bool(node.input[2])
    if node.op_type == "Conv":
        attrs = attributes(node)
        groups = int(attrs.get("group", 1))  # type: ignore[call-overload]  # an integer attribute
        stride = tuple(attrs.get("strides", (1,) * (len(weight) - 2)))  # type: ignore[arg-type]  # integers
        macs = math.prod(output) * math.prod(weight[1:])
        kind = conv_kind(weight, groups)
        return Layer(node.name, kind, "Conv", given, output, weight, stride, groups, bias, macs)
    if node.op_type in ("Gemm", "MatMul") and len(weight) == 2:
        if not attributes(node).get("transB", 0):
            weight = weight[::-1]
        return Layer(node.name, LINEAR, node.op_type, given, output, weight, (), 1, bias, math.prod(output) * weight[1])
    return Layer(node.name, OTHER, node.op_type, given, output)
