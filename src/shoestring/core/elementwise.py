"""Elementwise work on paper: activations, residual sums, gates, pooling. Methods change dot products and leave this be.

The organisers of the MicroNet challenge gave the operations of ReLU, swish, sigmoid and global averages (`counting.py`
in google-research/micronet_challenge); the rest follows their rules: a transcendental function is one operation, and so
is a comparison. Comparisons, divisions and transcendental functions stand with the multiplications, as there.
"""

import math
from collections.abc import Iterable, Mapping

from shoestring.core.counts import Counts, dense
from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer

# Multiplications and additions by output value, under torch's and ONNX's names in lower case.
_OPERATIONS = {
    "relu relu6 clip clamp hardtanh max min maximum minimum abs neg": (1, 0),
    "tanh exp log sqrt erf pow reciprocal": (1, 0),
    "mul div": (1, 0),
    "add sub": (0, 1),
    "leakyrelu prelu": (2, 0),
    "batchnorm batchnormalization": (1, 1),  # one that could not be folded
    "sigmoid hardsigmoid softplus softmax": (2, 1),  # of softmax: exponential, sum, division
    "swish silu hardswish elu": (3, 1),  # hard: x * relu6(x + 3) / 6
    "gelu mish": (4, 1),  # gelu: x / 2 * (1 + erf(x / sqrt 2))
    "layernorm layernormalization groupnorm": (3, 4),  # mean, difference, variance; scale, shift
}
_BY_NAME = {name: numbers for names, numbers in _OPERATIONS.items() for name in names.split()}
_AVERAGES = {"mean", "reducemean", "globalaveragepool", "averagepool", "avgpool", "adaptiveavgpool"}
_MAXIMA = {"maxpool", "adaptivemaxpool", "globalmaxpool", "amax", "reducemax"}
_SUMS = {"sum", "reducesum"}
_DOT_PRODUCTS = {"conv", "convtranspose", "linear", "gemm", "matmul", "bmm", "matmulnbits"}
# They move values and compute nothing.
_FREE = {
    *("cat", "concat", "chunk", "split", "slice", "pad", "zeropad", "expand", "tile", "squeeze", "unsqueeze", "gather"),
    *("embedding", "shape", "cast", "identity", "dropout", "take", "takepoints"),
}
# So do these with few axes: rows of points become maps of channels. With more they may shuffle channels, and the rules
# count permutations as products: no rule is given.
_TURNS, _FEW = {"transpose", "permute"}, 3
# Sampling and neighbours: distances, each of three products and five sums, and comparisons: with the nearest so far and
# the farthest, or with those that are kept.
_SAMPLINGS, _NEIGHBOURS = {"farthest", "farthestpoints"}, {"nearest", "nearestpoints", "within", "pointswithin"}


def elementwise(layer: Layer, bits: int = 32) -> Counts:
    """The operations of one input that are no dot products, on operands of `bits` bits: those of the layer itself, and
    those of the activation that belongs to it. Raises BadInput for an operation that no rule is known for."""
    op, outputs = layer.op.lower(), math.prod(layer.output)
    if op in _DOT_PRODUCTS or op in _FREE or (op in _TURNS and len(layer.output) <= _FEW):
        multiplies, adds = 0, 0
    elif op in _AVERAGES:
        multiplies, adds = 1, layer.window - 1
    elif op in _MAXIMA:
        multiplies, adds = layer.window - 1, 0
    elif op in _SAMPLINGS:
        multiplies, adds = 5 * layer.window, 5 * layer.window
    elif op in _NEIGHBOURS:  # the distances of a centre are shared by its neighbours
        multiplies, adds = -(-4 * layer.window // layer.output[-1]), -(-5 * layer.window // layer.output[-1])
    elif op in _SUMS:
        multiplies, adds = 0, layer.window - 1
    else:
        multiplies, adds = _by_name(op, layer)
    more = _by_name(layer.activation, layer) if layer.activation else (0, 0)
    multiplies, adds = (multiplies + more[0]) * outputs, (adds + more[1]) * outputs
    return Counts(multiplies={bits: multiplies} if multiplies else {}, adds={bits: adds} if adds else {})


def whole(layers: Iterable[Layer], changed: Mapping[str, Counts], bits: int = 32) -> dict[str, Counts]:
    """The counts of all layers of a network, by name. `changed`: what methods made of the dot products of some of them
    (`Method.counts`); the others are dense fp32. `bits`: of the operands of elementwise work, which stays float unless
    told otherwise. What a module called again (`conv:2`) stores is counted once. Raises BadInput like `elementwise`,
    and for a changed layer that is not there."""
    found = {}
    for layer in layers:
        own = changed.get(layer.name, dense(layer))
        found[layer.name] = (own.computed() if ":" in layer.name else own) + elementwise(layer, bits)
    if missing := sorted(set(changed) - set(found)):
        raise BadInput(f"counts: the network has no layer {missing[0]!r}; give the names of its inventory")
    return found


def _by_name(op: str, layer: Layer) -> tuple[int, int]:
    if op not in _BY_NAME:
        raise BadInput(f"counts: {layer.name}: no rule says what {op} costs; replace it, or leave the score out")
    return _BY_NAME[op]
