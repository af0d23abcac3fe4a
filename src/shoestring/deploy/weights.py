"""The weights of a graph's layers: read by layer, and put back changed."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from shoestring.deploy.normal_form import INTEGER_LAYERS, output_axis
from shoestring.deploy.rewrite import initialisers


def weights(model: ModelProto) -> dict[str, np.ndarray]:
    """Layer to its constant weight, outputs first ([O, I, ...], linear: out x in): values of a float layer, codes of a
    quantised one. A weight that several layers read is the first's."""
    constants = initialisers(model)
    return {
        node.name: np.moveaxis(constants[tensor], output_axis(node, constants[tensor].ndim), 0)
        for tensor, node in _owners(model, constants).items()
    }


def with_weights(
    model: ModelProto, values: Mapping[str, np.ndarray], biases: Mapping[str, np.ndarray] | None = None
) -> ModelProto:
    """A copy in which the layers of `values` have those weights, laid out as `weights` gives them, and those of
    `biases` (float layers, no MatMul) those biases [out]."""
    result = ModelProto()
    result.CopyFrom(model)
    owners = _owners(result, initialisers(result))
    for tensor in result.graph.initializer:
        node = owners.get(tensor.name)
        if node is not None and node.name in values:
            value = values[node.name]
            laid = np.ascontiguousarray(np.moveaxis(value, 0, output_axis(node, value.ndim)))
            tensor.CopyFrom(numpy_helper.from_array(laid, tensor.name))
    for node in result.graph.node:
        if biases and node.name in biases:
            name = f"{node.name}.bias_of_its_own"  # the one that it had may be another's too
            result.graph.initializer.append(numpy_helper.from_array(biases[node.name].astype(np.float32), name))
            node.input[:] = [*node.input[:2], name]
    return result


def _owners(model: ModelProto, constants: Mapping[str, np.ndarray]) -> dict[str, NodeProto]:
    """Constant to the first layer that has it as its weight, right away or dequantised."""
    codes = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    owners: dict[str, NodeProto] = {}
    for node in model.graph.node:
        if node.op_type in INTEGER_LAYERS:
            tensor = codes.get(node.input[1], node.input[1])
            if tensor in constants and constants[tensor].ndim >= 2:
                owners.setdefault(tensor, node)
    return owners
