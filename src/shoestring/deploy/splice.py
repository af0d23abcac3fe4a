"""A small graph in the place of one node of a large one."""

from onnx import ModelProto

from shoestring.core.errors import BadInput
from shoestring.deploy.rewrite import drop_unused

INPUT, OUTPUT = "input", "output"  # of a part, as `deploy.export` calls them
LAYER = "layer"  # what a part calls the layer that stays; what belongs to it is `layer_pool`, `layer.weight`


def splice(model: ModelProto, node: str, part: ModelProto) -> None:
    """Puts the nodes of `part` (one input, one output, of the same opset) where `node` is, in place: they read what it
    read first, and the last one writes what it wrote. What `part` calls LAYER is called after `node`, and everything
    else of it gets that name in front; a name that the graph has already is followed by `:2`. Shapes are no longer
    those of the graph: infer them when all parts are in. Raises BadInput when there is no such node."""
    graph, names = model.graph, [other.name for other in model.graph.node]
    if node not in names:
        raise BadInput(f"splice: the graph has no node {node!r}")
    index = names.index(node)
    old = graph.node.pop(index)
    drop_unused(model)
    renamed = {INPUT: old.input[0], OUTPUT: old.output[0], "": ""}
    taken = {name for other in graph.node for name in (other.name, *other.output)}
    taken |= {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    tensors = [*(tensor.name for tensor in part.graph.initializer), *(n for o in part.graph.node for n in o.output)]
    renamed |= {name: _called(name, node, taken) for name in tensors if name not in renamed}
    for tensor in part.graph.initializer:
        stored = graph.initializer.add()
        stored.CopyFrom(tensor)
        stored.name = renamed[tensor.name]
    for place, other in enumerate(part.graph.node, index):
        graph.node.insert(place, other)
        put = graph.node[place]
        # Nodes are called after what they write, but for the last one.
        put.name = node if other.name == LAYER else renamed.get(other.name) or _called(other.name, node, taken)
        put.input[:] = [renamed[name] for name in other.input]
        put.output[:] = [renamed[name] for name in other.output]


def _called(name: str, node: str, taken: set[str]) -> str:
    """What the graph calls `name` of a part; from now on it is taken."""
    own = node + (name.removeprefix(LAYER) if name.startswith(LAYER) else f"_{name}")
    found, count = own, 1
    while found in taken:
        count += 1
        found = f"{own}:{count}"
    taken.add(found)
    return found
