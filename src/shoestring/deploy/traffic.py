"""How many bytes each node of a graph has to move: what it reads (weights too) and what it writes, once each."""

import math
from collections.abc import Mapping

import onnx
from onnx import ModelProto, NodeProto

from shoestring.deploy.rewrite import ACTIVATIONS, WEIGHTED, readers

_FREE = ("Identity", "Constant", "Flatten", "Reshape", "Squeeze", "Unsqueeze")  # what only renames


def traffic(model: ModelProto) -> dict[str, int]:
    """Bytes by name of the node. A layer between a DequantizeLinear and a QuantizeLinear is executed on the codes and
    moves those; an activation behind a weighted node is applied on the way; nothing else is taken to be fused. What has
    no known shape counts nothing. Shapes must have been inferred."""
    widths, makers = _sizes(model), {name: node for node in model.graph.node for name in node.output}
    reads = readers(model)
    return {
        node.name: 0
        if node.op_type in _FREE
        else sum(widths.get(_source(name, makers), 0) for name in node.input)
        + sum(widths.get(_end(name, node, reads), 0) for name in node.output)
        for node in model.graph.node
    }


def _sizes(model: ModelProto) -> dict[str, int]:
    """Tensor to its bytes."""
    graph, found = model.graph, {}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        tensor = value.type.tensor_type
        elements = math.prod(axis.dim_value for axis in tensor.shape.dim)
        found[value.name] = _bytes(elements, tensor.elem_type)
    found.update({tensor.name: _bytes(math.prod(tensor.dims), tensor.data_type) for tensor in graph.initializer})
    return found


def _bytes(elements: int, kind: int) -> int:
    if kind in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return -(-elements // 2)
    return elements * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize if kind else 0


def _source(name: str, makers: Mapping[str, NodeProto]) -> str:
    """The codes, where a value comes from codes."""
    maker = makers.get(name)
    return maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else name


def _end(name: str, node: NodeProto, reads: Mapping[str, list[NodeProto]]) -> str:
    """What is really written where a node's result goes into an activation or becomes codes at once."""
    after = reads.get(name, [])
    if len(after) == 1 and node.op_type in WEIGHTED and after[0].op_type in ACTIVATIONS:
        name, after = after[0].output[0], reads.get(after[0].output[0], [])
    return after[0].output[0] if len(after) == 1 and after[0].op_type == "QuantizeLinear" else name
