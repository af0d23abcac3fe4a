"""Weights and biases of layers in the normal form: codes and scales made to suit the arithmetic, stored and read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.grid import Grid
from shoestring.deploy.normal_form import INTEGER_LAYERS, output_axis
from shoestring.deploy.quantize import safe16_range
from shoestring.deploy.rewrite import attributes, initialisers

MAX_BIAS = 2**30  # of a bias in accumulator steps: the sum of products is added to it in 32 bits


def oriented(node: NodeProto, weight: np.ndarray) -> np.ndarray:
    """A weight that begins with its outputs, laid out as `node` reads it."""
    return np.ascontiguousarray(np.moveaxis(weight, 0, output_axis(node, weight.ndim)))


def with_room(
    grid: Grid, calls: Sequence[NodeProto], scales: Mapping[str, np.float32], constants: Mapping[str, np.ndarray]
) -> Grid:
    """`grid`, or one with larger scales for channels so small (batch norm has switched them off) that their bias would
    leave 32 bits. The weight's own part in such a sum is far below a step of the output."""
    biases = [(node, bias_of(node, len(grid.scales), constants)) for node in calls]
    floors = [np.abs(bias) / (MAX_BIAS * float(scales[node.name])) for node, bias in biases if bias is not None]
    least = np.max([np.zeros(len(grid.scales)), *floors], axis=0)
    if (grid.scales >= least).all():
        return grid
    wide = np.maximum(grid.scales, least).astype(np.float32)
    shrink = (grid.scales / wide).reshape(-1, *[1] * (grid.codes.ndim - 1))
    return Grid(np.rint(grid.codes * shrink).astype(np.int8), wide, grid.bits)


def moved_up(
    grid: Grid,
    calls: Sequence[NodeProto],
    scales: Mapping[str, np.float32],
    constants: Mapping[str, np.ndarray],
    reads: int,
    most: int = 7,
) -> Grid:
    """The same values in the upper bits of a byte, with smaller scales. A bias is rounded to steps of s_x * s_w, which
    at 2 to 4 bits are a good part of an output's step; every bit that the codes move up halves them. `reads`: the
    highest code of what the layers read; two products must still fit 16 bits (see `quantize.safe16_range`). `most`:
    bits to move up by."""
    largest = int(np.abs(grid.codes.astype(np.int16)).max(initial=1))
    room = [127 // largest if (grid.codes == largest).any() else 128 // largest]
    if not (grid.codes.ndim > 2 and grid.codes.shape[1] == 1):  # depthwise layers are computed without pairs
        pairs = float(safe16_range(grid.codes.astype(np.float32)).max())
        room.append(int((2**15 - 1) // (max(pairs, 1) * reads)))
    for node in calls:
        if len(node.input) > 2 and node.input[2] in constants:
            steps = float(scales[node.name]) * grid.scales.astype(np.float64)
            far = float((np.abs(constants[node.input[2]].ravel()) / steps).max(initial=0))
            room.append(int(MAX_BIAS // max(far, 1)))
    shift = min(max(min(room), 1).bit_length() - 1, most)
    return Grid(grid.codes << shift, (grid.scales / 2**shift).astype(np.float32), grid.bits)


def highest_code(model: ModelProto, node: NodeProto, constants: Mapping[str, np.ndarray]) -> int:
    """Of what a layer reads: the upper bound of the Clip in front of its DequantizeLinear, else a byte's."""
    makers = {name: made for made in model.graph.node for name in made.output}
    codes = makers.get(makers[node.input[0]].input[0])
    bounded = codes is not None and codes.op_type == "Clip" and len(codes.input) > 2 and codes.input[2] in constants
    return int(constants[codes.input[2]]) if codes is not None and bounded else 255


def store_weight(model: ModelProto, calls: Sequence[NodeProto], grid: Grid) -> None:
    """Puts the codes and a DequantizeLinear where `calls`, which share it, read their float weight."""
    weight, axis = calls[0].input[1], output_axis(calls[0], grid.codes.ndim)
    tensors = {
        f"{weight}_quantized": oriented(calls[0], grid.codes),
        f"{weight}_scale": grid.scales,
        f"{weight}_zero_point": np.zeros(len(grid.scales), np.int8),  # without, ONNX Runtime computes a Gemm in floats
    }
    _dequantise(model, tensors, weight, axis)
    for node in calls:
        node.input[1] = f"{weight}_dequantized"


def store_bias(model: ModelProto, node: NodeProto, scale: np.ndarray, constants: Mapping[str, np.ndarray]) -> None:
    """`scale`: float32 [out], of the accumulators."""
    bias = bias_of(node, len(scale), constants)
    if bias is not None:
        name = f"{node.name}.bias"
        codes = np.rint(bias / scale).astype(np.int32)
        _dequantise(model, {f"{name}_quantized": codes, f"{name}_scale": scale}, name, 0)
        node.input[2] = f"{name}_dequantized"


def bias_of(node: NodeProto, outputs: int, constants: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """float64 [outputs], when the layer has one."""
    if len(node.input) < 3 or not node.input[2]:
        return None
    bias = constants.get(node.input[2])
    if bias is None or bias.size != outputs:
        raise BadInput(f"{node.name}: its bias is not one constant for each output; fold what computes it")
    return bias.ravel().astype(np.float64)


def _dequantise(model: ModelProto, tensors: Mapping[str, np.ndarray], name: str, axis: int) -> None:
    """Adds `tensors` (codes, scale, zero point) and, in front of all nodes, what dequantises them."""
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in tensors.items())
    node = helper.make_node(
        "DequantizeLinear", list(tensors), [f"{name}_dequantized"], name=f"{name}_DequantizeLinear", axis=axis
    )
    model.graph.node.insert(0, node)


@dataclass(frozen=True)
class Stored:
    """A layer of a graph, as it is stored: `weight` outputs first, values or (with `scales` [out]) codes; `bias`:
    float64 [out], None without one; `reads`, `writes`: its tensors; `attributes`: of its node, which is an `op`."""

    op: str
    weight: np.ndarray
    scales: np.ndarray | None
    bias: np.ndarray | None
    reads: str
    writes: str
    attributes: Mapping[str, Any]


def stored(model: ModelProto) -> dict[str, Stored]:
    """The layers of `model` whose weight is a constant, by name in graph order. One whose weight several nodes read is
    left out: no single input says what it should be."""
    constants = initialisers(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    sources = {node.name: _source(node, makers) for node in model.graph.node if node.op_type in INTEGER_LAYERS}
    owners = list(sources.values())
    found = {}
    for node in model.graph.node:
        source = sources.get(node.name)
        if source is None or source not in constants or constants[source].ndim < 2 or owners.count(source) > 1:
            continue
        weight = np.moveaxis(constants[source], output_axis(node, constants[source].ndim), 0)
        maker = makers.get(node.input[1])
        scales = None if maker is None else np.broadcast_to(constants[maker.input[1]].ravel(), len(weight))
        bias = None
        if len(node.input) > 2 and (name := _source(node, makers, 2)) in constants:
            bias = constants[name].ravel().astype(np.float64)
            if name != node.input[2]:
                bias = bias * constants[makers[node.input[2]].input[1]].astype(np.float64)
        found[node.name] = Stored(node.op_type, weight, scales, bias, node.input[0], node.output[0], attributes(node))
    return found


def put(model: ModelProto, layer: str, grid: Grid, bias: np.ndarray, most: int = 7) -> None:
    """Stores `grid` (as the layer is: [out, in, ...]) and `bias` (float [out]) as the weight and bias of a `layer` of
    `model` that is quantised already, in place. Codes of few bits move up in their byte as far as arithmetic allows, by
    `most` bits at most. A MatMul has no bias: what is given for one is left out."""
    constants = initialisers(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    node = next(node for node in model.graph.node if node.name == layer)
    weight = makers[node.input[1]]
    scale = np.float32(constants[makers[node.input[0]].input[1]].item())
    # What the arithmetic has room for goes by the bias to come.
    named = f"{layer}.bias"
    known = {**constants, named: bias.astype(np.float64)}
    free = NodeProto()
    free.CopyFrom(node)
    free.input[:] = [*node.input[:2], named]
    grid = with_room(grid, [free], {layer: scale}, known)
    grid = moved_up(grid, [free], {layer: scale}, known, highest_code(model, node, constants), most)
    codes = np.rint(bias / (scale * grid.scales)).astype(np.int32)
    tensors = {weight.input[0]: oriented(node, grid.codes), weight.input[1]: grid.scales}
    if len(node.input) > 2 and node.input[2]:
        old = makers[node.input[2]]
        tensors |= {old.input[0]: codes.reshape(constants[old.input[0]].shape), old.input[1]: scale * grid.scales}
    elif node.op_type != "MatMul":
        _dequantise(model, {f"{named}_quantized": codes, f"{named}_scale": scale * grid.scales}, named, 0)
        node.input[:] = [*node.input[:2], f"{named}_dequantized"]
    for tensor in model.graph.initializer:
        if tensor.name in tensors:
            tensor.CopyFrom(numpy_helper.from_array(tensors[tensor.name], tensor.name))


def _source(node: NodeProto, makers: Mapping[str, NodeProto], place: int = 1) -> str:
    """The constant behind an input of `node`: itself, or what is dequantised there."""
    maker = makers.get(node.input[place])
    return maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else node.input[place]
