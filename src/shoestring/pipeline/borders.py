"""Borders: what it costs where a layer in 8 bits meets one in fp32, which no layer's own time can tell.

The network with every other layer in 8 bits is timed like any option. What it takes beyond the times of its layers is
shared out over its borders, by the size of what passes them.
"""

import math
from collections.abc import Collection, Mapping

from onnx import ModelProto

from shoestring.deploy.rewrite import infer, shapes

ALTERNATE = "every other layer in 8 bits"
Borders = Mapping[tuple[str, str], float]


def edges(model: ModelProto, layers: Collection[str]) -> dict[tuple[str, str], int]:
    """(layer, layer that reads what came of it): how many numbers the second reads."""
    known = shapes(infer(model))
    sources: dict[str, frozenset[str]] = {}  # of a tensor: the layers that it comes from
    found: dict[tuple[str, str], int] = {}
    for node in model.graph.node:
        before = frozenset().union(*(sources.get(name, frozenset()) for name in node.input))
        if node.name in layers:
            size = math.prod(max(1, axis) for axis in known.get(node.input[0], ()))
            found |= {(one, node.name): size for one in before}
            before = frozenset([node.name])
        sources |= dict.fromkeys(node.output, before)
    return found


def priced(sizes: Mapping[tuple[str, str], int], floats: Collection[str], ms: float) -> Borders:
    """Each border's milliseconds, when those between the layers in fp32 (`floats`) and the others take `ms` in sum."""
    passing = sum(size for pair, size in sizes.items() if _crosses(pair, floats))
    return {pair: max(0.0, ms) * size / passing for pair, size in sizes.items()} if passing else {}


def crossed(borders: Borders, floats: Collection[str]) -> float:
    """Milliseconds of the borders that there are when the layers `floats` stay in fp32 and the others do not."""
    return sum(ms for pair, ms in borders.items() if _crosses(pair, floats))


def _crosses(pair: tuple[str, str], floats: Collection[str]) -> bool:
    return (pair[0] in floats) != (pair[1] in floats)
