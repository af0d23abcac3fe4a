"""What a graph costs on paper, read off the file itself: as many bits as its codes need, zeros left out if that pays.

An exported file holds low-bit weights in bytes, and the positions of its zeros nowhere; what a method meant to store is
what the codes can be stored in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from onnx import ModelProto, NodeProto

from shoestring.core.counts import Counts, sparse
from shoestring.core.elementwise import elementwise
from shoestring.core.layer import Layer
from shoestring.core.pattern import BlockPattern
from shoestring.deploy.inventory import layers_of_nodes
from shoestring.deploy.normal_form import INTEGER_LAYERS, output_axis
from shoestring.deploy.packing import shift_of
from shoestring.deploy.rewrite import WEIGHTED, attributes, initialisers

FLOAT = 32
BLOCKS = (BlockPattern(4, 1), BlockPattern(8, 1), BlockPattern(4, 4))  # that a mask may speak of


def counts(model: ModelProto, accumulator_bits: int = FLOAT) -> dict[str, Counts]:
    """The counts of every node of a graph that costs anything, by the tensor it writes (names of nodes may repeat).
    `accumulator_bits`: width of the sums of dot products. Shapes must have been inferred.

    A layer whose input and weight come from codes multiplies codes: a weight is as wide as its largest code, an
    activation as its quantiser and the Clip behind that. All else is done on floats, elementwise work too. Weights are
    stored sparse, with a mask bit for each or for each block of them, where that is not larger. A layer whose outputs
    have equal weights each is a sum: it only adds, and stores none. Scales, biases and constants take 32 bits; a weight
    that several layers read is stored once. Raises BadInput for an operator that no rule is known for."""
    constants, makers = initialisers(model), {name: node for node in model.graph.node for name in node.output}
    found, stored = {}, set()
    for node, layer in layers_of_nodes(model):
        if node.op_type in WEIGHTED or node.op_type == "MatMulNBits":
            own = _weighted(node, layer, constants, makers, accumulator_bits)
            own = own.computed() if node.input[1] in stored else own
            stored.add(node.input[1])
        else:
            own = Counts(bits=sum(FLOAT * x.size for x in _floats(node.input, constants) if x.size > 1))
        found[node.output[0]] = own + elementwise(layer)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            found[node.output[0]] = Counts(bits=FLOAT + _code_bits(node, constants))  # a scale and a zero point
    return found


def _weighted(
    node: NodeProto,
    layer: Layer,
    constants: Mapping[str, np.ndarray],
    makers: Mapping[str, NodeProto],
    accumulator_bits: int,
) -> Counts:
    """The dot products of a layer; of two activations where no input is a constant."""
    if node.op_type == "MatMulNBits":
        given = attributes(node)
        reads = 8 if given.get("accuracy_level", 0) == 4 else FLOAT  # quantised on the fly
        scales = sum(
            x.size for x in _floats(node.input[2:3], constants)
        )  # one a block, where `sparse` has one an output
        own = sparse(layer, layer.weights, 0, given.get("bits", 4), reads, accumulator_bits)
        return own + Counts(bits=FLOAT * (scales - layer.weight[0]))
    reads, weight, maker = _width(node.input[0], constants, makers), None, makers.get(node.input[1])
    if node.input[1] in constants:
        weight, bits = constants[node.input[1]], FLOAT
    elif maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in constants:
        weight = constants[maker.input[0]]
        bits = bits_of(weight)
    else:
        bits = _width(node.input[1], constants, makers)
    kept, mask_bits = layer.weights, 0
    if weight is not None and layer.weight:
        if _sums(node, weight):
            return replace(sparse(layer, layer.weights, 0, 0, reads, accumulator_bits), nonzeros=0, multiplies={})
        kept, mask_bits = _stored(weight, node, layer.groups, bits)
    return sparse(layer, kept, mask_bits, bits, reads, accumulator_bits)


def _sums(node: NodeProto, weight: np.ndarray) -> bool:
    """Whether each output of a layer is a sum: of several weights, all equal and not zero."""
    outputs_first = np.moveaxis(weight, output_axis(node, weight.ndim), 0)
    rows = outputs_first.reshape(len(outputs_first), -1)
    return rows.shape[1] > 1 and bool((rows == rows[:, :1]).all() and rows[:, 0].all())


def _stored(weight: np.ndarray, node: NodeProto, groups: int, bits: int) -> tuple[int, int]:
    """How many weights of `bits` are stored, and the bits of the mask that says which. Zeros are left out one by one,
    with a bit for each weight, or in blocks, with a bit for each block; or nothing is, where that takes less."""
    forms = [(int(np.count_nonzero(weight)), weight.size)]
    if node.op_type in INTEGER_LAYERS:
        full = np.moveaxis(weight, output_axis(node, weight.ndim), 0) != 0
        for pattern in BLOCKS:
            some = pattern.norms(full, groups) > 0
            forms.append((int(pattern.sizes(full.shape, groups)[some].sum()), some.size))
    return min([*forms, (weight.size, 0)], key=lambda form: form[0] * bits + form[1])


def bits_of(codes: np.ndarray) -> int:
    """The bits, at least 2, of a two's complement integer that holds all `codes`."""
    codes = codes >> shift_of(codes) if codes.dtype == np.int8 else codes
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    return max(2, 1 + max(high, ~low).bit_length())


def _width(name: str, constants: Mapping[str, np.ndarray], makers: Mapping[str, NodeProto]) -> int:
    """The bits of an activation: of its codes when it comes right from a DequantizeLinear, else those of a float."""
    maker = makers.get(name)
    if maker is None or maker.op_type != "DequantizeLinear":
        return FLOAT
    codes = makers.get(maker.input[0])
    clipped = codes is not None and codes.op_type == "Clip"
    bounds = [constants.get(bound) for bound in codes.input[1:3]] if codes is not None and clipped else []
    if len(bounds) < 2 or any(bound is None for bound in bounds):
        return _code_bits(maker, constants)
    low, high = (int(bound) for bound in bounds if bound is not None)
    return max(1, (high - low).bit_length())


def _code_bits(node: NodeProto, constants: Mapping[str, np.ndarray]) -> int:
    """The bits of the codes that a QuantizeLinear writes or a DequantizeLinear reads; its zero point has their type."""
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    return 8 if zero is None else 8 * zero.dtype.itemsize


def _floats(names: Iterable[str], constants: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [constants[name] for name in names if name in constants and constants[name].dtype.kind == "f"]
