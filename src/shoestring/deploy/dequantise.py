"""A quantised graph back in floats: the same layers, shapes and (rounded) weights without any integer node. It is the
fp32 baseline of a file whose original is not at hand."""

import numpy as np
from onnx import ModelProto, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy.rewrite import attributes, drop_unused, infer, initialisers

_INTEGER_FORM = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm")


def dequantise(model: ModelProto) -> ModelProto:
    """Constants behind a DequantizeLinear become floats, the other quantise and dequantise nodes disappear. Raises
    BadInput for graphs that hold integer operators instead of QDQ pairs."""
    for node in model.graph.node:
        if node.op_type in _INTEGER_FORM:
            raise BadInput(f"{node.name or node.op_type}: {node.op_type} has no float form; give the original's file")
    result = ModelProto()
    result.CopyFrom(model)
    graph, constants = result.graph, initialisers(model)
    outputs = {value.name for value in graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            values = _floats(constants, list(node.input), int(attributes(node).get("axis", 1)))  # type: ignore[call-overload]
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            if node.op_type == "DequantizeLinear":
                node.op_type = "Identity"
                del node.input[1:]
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused(result)
    return infer(result)


def _floats(constants: dict[str, np.ndarray], inputs: list[str], axis: int) -> np.ndarray:
    codes, scale = constants[inputs[0]], constants[inputs[1]]
    zero = constants[inputs[2]] if len(inputs) > 2 and inputs[2] else np.zeros_like(scale, codes.dtype)
    shape = [1] * codes.ndim
    if scale.ndim == 1 and scale.size > 1:
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    floats: np.ndarray = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
    return floats
