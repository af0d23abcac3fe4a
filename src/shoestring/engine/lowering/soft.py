"""Softmax, of floats at the edges of a network."""

import math
from collections.abc import Sequence

import numpy as np

from shoestring.engine.lowering.builder import Builder, per_image
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.values import Constant, Encoded, Floats, Value, shape_of
from shoestring.engine.lowering.views import stored_order, transposed, whole
from shoestring.engine.program import F32, Softmax


def softmax(node: Node, values: Sequence[Value | None], builder: Builder) -> Floats:
    x = values[0]
    if x is None or isinstance(x, Constant | Encoded):
        raise Unsupported("it reads a constant")
    rank = len(shape_of(x))
    axis = node.attributes.get("axis", -1) % rank
    floats = builder.floats(x, f"{node.name}/floats")
    order = stored_order(floats.view)
    stored = transposed(floats.view, order)
    shape = stored.shape
    source = builder.contiguous(Floats(floats.tensor, stored), per_image(shape), f"{node.name}/input")
    output = builder.tensor(node.name, builder.tensors[source].shape, F32)
    at = order.index(axis)
    sizes = math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])
    builder.ops.append(Softmax(node.name, source, output, *sizes))
    return Floats(output, transposed(whole(shape), [int(place) for place in np.argsort(order)]))
