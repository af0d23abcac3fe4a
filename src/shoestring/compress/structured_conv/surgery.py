"""A captured network with layers in the place of others: the small layer keeps its path, sums get one beside it."""

import copy
import operator
from collections.abc import Mapping

import torch
from torch import fx, nn

from shoestring.compress.structured_conv.decompose import Ends, channel_axis, pool, small, total, uneven
from shoestring.compress.structured_conv.shape import Layer, Shape
from shoestring.graph.capture import reshaped
from shoestring.graph.sums import POOL, TOTAL


def decomposed(gm: fx.GraphModule, shapes: Mapping[str, Shape]) -> fx.GraphModule:
    """A copy of `gm` in which the layers of `shapes` (module path) are decomposed: `PATH` is the small layer,
    `PATH_pool` sums over pixels and `PATH_total` over channels. Every operation is a node, so that methods to come can
    quantise what is between."""
    gm = copy.deepcopy(gm)
    for path, shape in shapes.items():
        layer = gm.get_submodule(path)
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear), "`apply` looked"
        for node in [node for node in gm.graph.nodes if node.op == "call_module" and node.target == path]:
            _put_before(gm, node, layer, shape)
        gm.set_submodule(path, small(layer, shape))
    gm.graph.lint()
    gm.recompile()
    return reshaped(gm)


def _put_before(gm: fx.GraphModule, node: fx.Node, layer: Layer, shape: Shape) -> None:
    path, source = str(node.target), node.all_input_nodes[0]
    x = source
    with gm.graph.inserting_before(node):
        if shape.c < shape.inputs:
            x = _channels(gm, x, path, layer, shape)
        if shape.pools:
            assert not isinstance(layer, nn.Linear), "it has no pixels"
            if padding := uneven(layer):
                x = _called(gm, f"{path}_pad", padding, x)
            x = _called(gm, path + POOL, pool(layer, shape), x)
    node.replace_input_with(source, x)


def _channels(gm: fx.GraphModule, x: fx.Node, path: str, layer: Layer, shape: Shape) -> fx.Node:
    ends, graph = Ends.of(layer, shape), gm.graph
    first, low, high = (graph.call_function(operator.getitem, (x, part)) for part in (ends.first, ends.low, ends.high))
    summed = _called(gm, path + TOTAL, total(layer, shape), first)
    if shape.c == 1:
        return summed
    gained = graph.call_function(operator.sub, (high, low))
    return graph.call_function(torch.cat, ([summed, gained], channel_axis(layer)))


def _called(gm: fx.GraphModule, path: str, module: nn.Module, x: fx.Node) -> fx.Node:
    if path not in dict(gm.named_modules()):  # a second call of a layer has the same
        gm.add_submodule(path, module)
    return gm.graph.call_module(path, (x,))
