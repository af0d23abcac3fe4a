"""A quantised graph back in floats: the same layers, shapes and (rounded) weights without any integer node. It is the
fp32 baseline of a file whose original is not at hand."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy.geometry import TAKE, values_of
from shoestring.deploy.matmul_nbits import as_floats
from shoestring.deploy.rewrite import attributes, drop_unused, infer, initialisers

_INTEGER_FORM = ("ConvInteger", "MatMulInteger", "QGemm", "QLinear")  # beginnings of operators
_ZERO, _HIGHEST, _NONE = np.zeros((), np.uint8), np.full((), 255, np.uint8), np.zeros(0)
_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax")
_KEEP_SIGNS = (
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMax", TAKE),
    *("Add", "Mul", "Concat", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"),
)


def dequantise(model: ModelProto) -> ModelProto:
    """Constants behind a DequantizeLinear become floats and MatMulNBits products with one, the other quantise and
    dequantise nodes disappear. Where a quantiser's zero point of 0 did the work of a ReLU or ReLU6, a Clip to its range
    or its codes' does it again. Raises BadInput for graphs that hold integer operators instead of QDQ pairs."""
    result = as_floats(model)
    graph, constants = result.graph, initialisers(result)
    outputs = {value.name for value in graph.output}
    never_negative = {value.name for value in graph.input}  # what the network is given needs no ReLU
    codes = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    clips = {node.input[0]: node for node in graph.node if node.op_type == "Clip" and node.input[0] in codes}
    clipped = {node.output[0] for node in clips.values()} - outputs
    renamed: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type.startswith(_INTEGER_FORM):
            raise BadInput(f"{node.name or node.op_type}: {node.op_type} has no float form; give the original's file")
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            graph.initializer.append(numpy_helper.from_array(_floats(node, constants), node.output[0]))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            top = _top(node, clips.get(node.output[0]), constants) if node.op_type == "QuantizeLinear" else None
            if top is not None and node.input[0] not in never_negative:
                kept.append(_clip(node, top, result))
                renamed[node.output[0]] = kept[-1].output[0]
                never_negative.add(kept[-1].output[0])
        elif node.output[0] in clipped:
            renamed[node.output[0]] = node.input[0]
        else:
            if node.op_type == "DequantizeLinear":
                node.op_type = "Identity"
                del node.input[1:]
            if _is_never_negative(node, never_negative, constants):
                never_negative.update(node.output)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    drop_unused(result)
    return infer(result)


def _floats(node: NodeProto, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """The values of a constant behind `node`, its DequantizeLinear."""
    codes, scale, zero = constants[node.input[0]], constants.get(node.input[1]), _zero_point(node, constants)
    if scale is None or scale.ndim > 1:
        raise BadInput(f"{node.name}: only one scale, or one for each channel, has a float form here")
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[attributes(node).get("axis", 1)] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    floats: np.ndarray = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
    return floats


def _zero_point(node: NodeProto, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    return constants.get(node.input[2], _ZERO) if len(node.input) > 2 else _ZERO


def _top(node: NodeProto, clip: NodeProto | None, constants: Mapping[str, np.ndarray]) -> float | None:
    """The highest value that a QuantizeLinear and the Clip of its codes keep, where they turn all below 0 into 0."""
    scale, zero = constants.get(node.input[1]), _zero_point(node, constants)
    if scale is None or scale.size != 1 or zero.size != 1 or zero.dtype != np.uint8:
        return None
    bounds = [constants.get(name, _NONE) for name in clip.input[1:3]] if clip is not None else [_ZERO, _HIGHEST]
    if len(bounds) < 2 or any(bound.size != 1 for bound in bounds) or bounds[0].item() != zero.item():
        return None
    return float((bounds[1].item() - zero.item()) * scale.item())


def _clip(node: NodeProto, high: float, model: ModelProto) -> NodeProto:
    """The saturation of a QuantizeLinear on [0, high] in floats; its bounds go into `model`."""
    name = f"{node.input[0]}/clip"
    bounds = (f"{name}/low", 0.0), (f"{name}/high", high)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value, np.float32), key) for key, value in bounds)
    return helper.make_node("Clip", [node.input[0], *(key for key, _ in bounds)], [name], name=name)


def _is_never_negative(node: NodeProto, known: set[str], constants: Mapping[str, np.ndarray]) -> bool:
    if node.op_type in _NEVER_NEGATIVE:
        return True
    floats = [name for name in values_of(node) if name not in constants or constants[name].dtype.kind == "f"]
    return node.op_type in _KEEP_SIGNS and known.issuperset(floats)
