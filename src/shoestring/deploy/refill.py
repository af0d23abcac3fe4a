"""The float graph of a network, made of that of another one that differs in its weights only."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, numpy_helper


def refilled(
    graph: ModelProto, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], groups: Mapping[str, int]
) -> ModelProto | None:
    """A copy of `graph`, exported from a network with the parameters `before`, that has `after` in their place, whose
    names are the same and whose channels may be fewer. `groups`: of convolutions, by name. None where the graph does
    not have all parameters as they are, or has vectors beside them, which may have been made of them."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    floats = {name for name, value in stored.items() if value.dtype.kind == "f" and value.size > 1}
    same = before.keys() == after.keys() and before.keys() <= stored.keys()
    if (
        floats - before.keys()
        or not same
        or any(not np.array_equal(stored[name], value) for name, value in before.items())
    ):
        return None
    found = ModelProto()
    found.CopyFrom(graph)
    for tensor in found.graph.initializer:
        if tensor.name in after:
            tensor.CopyFrom(numpy_helper.from_array(after[tensor.name], tensor.name))
    for node in found.graph.node:
        if node.op_type == "Conv" and node.name in groups:
            for one in node.attribute:
                if one.name == "group":
                    one.i = groups[node.name]
    del found.graph.value_info[:]  # shapes of the other network
    return found
