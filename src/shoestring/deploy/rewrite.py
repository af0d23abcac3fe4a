"""Edits of ONNX graphs that keep their meaning: names, global pooling, batch size, weights taken out and put back."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from shoestring.core.errors import BadInput

OPSET, IR_VERSION = 21, 10
WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")
MAX_FILLED = 2**28  # weights that `fill_weights` makes up: 1 GiB
ACTIVATIONS = ("Clip", "Relu", "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu", "Gelu", "Swish", "Tanh")


def tidy(model: ModelProto) -> ModelProto:
    """A copy in which constants are initialisers, means over H and W are global pools (runtimes quantise those),
    weighted nodes are called after their weight's module, and identities, unused initialisers and the exporter's notes
    (paths of its machine among them) are gone; shapes are inferred. Raises BadInput when they do not fit."""
    tidied = ModelProto()
    tidied.CopyFrom(model)
    _store_constants(tidied.graph)
    _drop_identities(tidied.graph)
    _pool_means(tidied)
    _name_nodes(tidied)
    _drop_notes(tidied)
    drop_unused(tidied)
    return infer(tidied)


def named(model: ModelProto) -> ModelProto:
    """A copy that computes the same, in which every node has a name of its own and its output is called after it: what
    a runtime's profile can be read by."""
    copy = ModelProto()
    copy.CopyFrom(model)
    _name_nodes(copy)
    return copy


def infer(model: ModelProto) -> ModelProto:
    """A copy with the shapes of all tensors. Raises BadInput when they contradict each other."""
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    try:
        return shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:
        raise BadInput(f"onnx: the shapes of the graph do not fit: {' '.join(str(error).split())[:200]}") from None


def initialisers(model: ModelProto) -> dict[str, np.ndarray]:
    """Constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor whose shape is known; an axis of unknown length is 0."""
    graph, known = model.graph, {}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            known[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
    known.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return known


def attributes(node: NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def readers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Tensor to the nodes that read it, in graph order; one that reads it twice is there twice."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _store_constants(graph: GraphProto) -> None:
    """Constant nodes of tensors as initialisers, where all that looks for a constant finds them: the bounds of a Clip,
    as exporters write them."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = attributes(node).get("value")
        if isinstance(value, TensorProto):
            stored = graph.initializer.add()
            stored.CopyFrom(value)
            stored.name = node.output[0]
            graph.node.remove(node)


def drop_unused(model: ModelProto) -> None:
    """Removes the initialisers that nothing reads."""
    used = {name for graph in _bodies(model.graph) for node in graph.node for name in node.input}
    used |= {value.name for graph in _bodies(model.graph) for value in graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def rebatch(model: ModelProto, batch: int) -> ModelProto:
    """A copy whose inputs and outputs have `batch` as their first axis. Raises BadInput when the graph has a batch
    baked in."""
    changed = ModelProto()
    changed.CopyFrom(model)
    for value in [*changed.graph.input, *changed.graph.output]:
        for axis in value.type.tensor_type.shape.dim[:1]:
            axis.dim_value = batch
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    for node in changed.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if shape.size and shape[0] == 1:
                shape[0] = 0 if -1 in shape else -1
                constants[node.input[1]].CopyFrom(numpy_helper.from_array(shape, node.input[1]))
    try:
        return infer(changed)
    except BadInput:
        raise BadInput(f"onnx: the graph has its batch size baked in and cannot run at batch {batch}") from None


def lean(model: ModelProto) -> bytes:
    """The serialised graph without inferred shapes, which every reader infers again."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return bytes(copy.SerializeToString())


def strip_weights(model: ModelProto) -> ModelProto:
    """The graph with every large float constant replaced by an input-less shape-only stand-in of zero bytes: what a
    network costs without what it knows. `fill_weights` makes it run again."""
    stripped = ModelProto()
    stripped.CopyFrom(model)
    for tensor in stripped.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) > 16:
            name, dims = tensor.name, list(tensor.dims)
            tensor.Clear()
            tensor.name, tensor.data_type, tensor.doc_string = name, TensorProto.FLOAT, "stripped"
            tensor.dims.extend(dims)
    return stripped


def fill_weights(model: ModelProto, seed: int = 0) -> ModelProto:
    """The inverse of `strip_weights` for speed: seeded normal weights, scaled to keep activations near unit size.
    Raises BadInput for sizes that no network has: a file of a few bytes can ask for any."""
    filled = ModelProto()
    filled.CopyFrom(model)
    rng = np.random.default_rng(seed)
    left = MAX_FILLED
    for tensor in filled.graph.initializer:
        if tensor.doc_string == "stripped":
            dims = tuple(tensor.dims)
            left -= math.prod(dims)
            if left < 0 or min(dims, default=1) < 1 or len(dims) > 8:
                raise BadInput(f"onnx: a weight is said to be {list(dims[:8])}; at most {MAX_FILLED} can be filled in")
            fan_in = math.prod(dims[1:])
            values = rng.standard_normal(dims, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return filled


def _drop_identities(graph: GraphProto) -> None:
    """Torch's older exporter stores equal constants once, and reads the others through an Identity: so a bias would be
    no constant."""
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = same.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    for body in _bodies(graph):
        for node in body.node:
            for index, name in enumerate(node.input):
                node.input[index] = same.get(name, name)


def _pool_means(model: ModelProto) -> None:
    """ReduceMean over the last two of four axes becomes GlobalAveragePool (then Flatten when the axes are dropped)."""
    constants, ranks = initialisers(model), {name: len(shape) for name, shape in shapes(infer(model)).items()}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            nodes.append(node)
            continue
        given = attributes(node)
        axes = constants.get(node.input[1]) if len(node.input) > 1 else given.get("axes")
        if axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            nodes.append(node)
            continue
        keep = given.get("keepdims", 1)
        pooled = node.output[0] if keep else f"{node.output[0]}_pooled"
        nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name))
        if not keep:
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{node.name}_flatten", axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _name_nodes(model: ModelProto) -> None:
    """Weighted nodes take their module's path (from `PATH.weight`, the second call is `PATH:2`), an activation that
    follows one is `PATH/clip`; other nodes keep unique names; a node's output is called after it, so that every
    runtime's profile speaks of layers."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    taken = _lasting_names(graph)
    renamed: dict[str, str] = {}
    weighted: dict[str, str] = {}  # output tensor of a weighted node: its name
    for node in graph.node:
        name = node.name.removeprefix("node_") or node.op_type.lower()
        if node.op_type in WEIGHTED and node.input[1] in constants:
            if node.input[1].endswith(".weight"):
                name = node.input[1].removesuffix(".weight")
            weighted[node.output[0]] = name = _unique(name, taken)
        elif node.op_type in ACTIVATIONS and node.input[0] in weighted:
            name = _unique(f"{weighted[node.input[0]]}/{node.op_type.lower()}", taken)
        else:
            name = _unique(name, taken)
        node.name = name
        if len(node.output) == 1 and node.output[0] not in outputs:
            renamed[node.output[0]] = name
    for body in _bodies(graph):
        for node in body.node:
            for names in (node.input, node.output):
                for index, tensor in enumerate(names):
                    names[index] = renamed.get(tensor, tensor)


def _lasting_names(graph: GraphProto) -> set[str]:
    """Tensors that `_name_nodes` does not rename."""
    names = {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    names.update(name for node in graph.node if len(node.output) > 1 for name in node.output)
    for body in _bodies(graph):
        if body is not graph:
            names.update(value.name for value in (*body.initializer, *body.input))
            names.update(name for node in body.node for name in node.output)
    return names


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}:{count}"
    taken.add(candidate)
    return candidate


def _drop_notes(model: ModelProto) -> None:
    """Removes what the exporter tells about its source: stack traces, comments."""
    del model.metadata_props[:]
    for graph in _bodies(model.graph):
        for item in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            item.ClearField("doc_string")
            del item.metadata_props[:]


def _bodies(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and the bodies of its loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _bodies(body)
