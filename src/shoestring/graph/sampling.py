"""How many points a network samples, and how many neighbours it looks at: the numbers in the nodes that do so. No
weight depends on them."""

from typing import Any

import torch
from torch import fx
from torch.fx.passes.shape_prop import ShapeProp

from shoestring.geometry.operators import FARTHEST, NEAREST, WITHIN
from shoestring.graph.capture import captured_shape, example_input

LEAST = 4  # points or neighbours, where there were as many
_COUNT: dict[Any, int] = {FARTHEST: 1, NEAREST: 2, WITHIN: 3}  # place of the number among a node's arguments
_AROUND: dict[Any, int] = {FARTHEST: 0, NEAREST: 1, WITHIN: 1}  # place of the points it is a number of


def counts(gm: fx.GraphModule) -> dict[str, int]:
    """The number that each node gives which samples points or looks for neighbours, by its name."""
    return {node.name: int(_count(node)) for node in gm.graph.nodes if node.target in _COUNT}


def fewer(gm: fx.GraphModule, points: int, near: float = 1.0) -> fx.GraphModule:
    """`gm` (captured with inputs [N, 3]) for inputs of `points` x 3, in place: what is sampled goes down by the same
    share, neighbours to the share `near`, neither below 4 (or what it was), nor above the points that are there. Left
    in eval mode, its nodes with the shapes that they have then. Raises what the network's code raises on shapes that do
    not fit."""
    share = points / captured_shape(gm)[0]
    for node in gm.graph.nodes:
        if node.target in _COUNT:
            _put(node, _lower(int(_count(node)), share if node.target is FARTHEST else near))
    gm.eval()  # looking at shapes draws no random numbers and keeps statistics
    with torch.no_grad():
        _Limited(gm).propagate(example_input(gm, (points, 3)))
    gm.recompile()
    return gm


class _Limited(ShapeProp):
    """Runs a graph, notes shapes, and asks for no more points than there are."""

    def run_node(self, n: fx.Node) -> Any:
        if n.target in _COUNT:
            around = n.args[_AROUND[n.target]]
            assert isinstance(around, fx.Node), "it is computed or given"
            _put(n, min(int(_count(n)), self.env[around].shape[1]))
        return super().run_node(n)


def _lower(count: int, share: float) -> int:
    return min(count, max(LEAST, round(count * share)))


def _count(node: fx.Node) -> Any:
    place = _COUNT[node.target]
    return node.args[place] if len(node.args) > place else node.kwargs["count"]


def _put(node: fx.Node, count: int) -> None:
    place = _COUNT[node.target]
    if len(node.args) > place:
        node.update_arg(place, count)
    else:
        node.update_kwarg("count", count)
