"""Grids that were learned in training, realised in the QDQ normal form: what was trained is what runs.

The activations of the graph carry their grids already (QuantizeLinear, a Clip of the codes below 8 bits,
DequantizeLinear, as the exporter writes them); here the weights and biases get theirs.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.grid import Grid
from shoestring.deploy.normal_form import INTEGER_LAYERS, output_axis
from shoestring.deploy.quantize import keep_float, safe16_range
from shoestring.deploy.rewrite import attributes, drop_unused, infer, initialisers
from shoestring.deploy.saturation import bound_codes

MAX_BIAS = 2**30  # of a bias in accumulator steps: the sum of products is added to it in 32 bits


def realise(graph: ModelProto, grids: Mapping[str, Grid]) -> ModelProto:
    """A copy of `graph` (float weights equal to their grids' values, activations quantised) in which the layers of
    `grids` (layer to Grid) store their weight as int8 and their bias as int32 at float32(s_x * s_w).

    A ReLU or Clip that only quantisers read becomes a bound of their codes: rounding is monotone, so nothing changes,
    and runtimes keep the integer kernel. Layers without a grid stay float. Raises BadInput for a grid without a layer,
    of another shape or with other values than the graph, with codes beyond its bits, and for a layer that reads floats.
    """
    result = ModelProto()
    result.CopyFrom(graph)
    constants = initialisers(result)
    named = {node.name: node for node in result.graph.node if _weighted(node, constants)}
    owners: dict[str, str] = {}  # weight: layer; a second call of a layer is another node with the same weight
    for name, grid in grids.items():
        if name not in named:
            raise BadInput(f"{name}: the graph has no convolution or linear layer of this name with a constant weight")
        _check(name, named[name], grid, constants[named[name].input[1]])
        owners[named[name].input[1]] = name
    calls = [node for node in result.graph.node if _weighted(node, constants) and node.input[1] in owners]
    scales = _input_scales(result, calls, constants)
    for weight, name in owners.items():
        own = [node for node in calls if node.input[1] == weight]
        roomy = _with_room(grids[name], own, scales, constants)
        roomy = _moved_up(roomy, own, scales, constants, max(_highest_code(result, node, constants) for node in own))
        _store_weight(result, own, roomy)
        for node in own:
            _store_bias(result, node, scales[node.name] * roomy.scales, constants)
    bound_codes(result)
    keep_float(result)
    drop_unused(result)
    return infer(result)


def _weighted(node: NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    return node.op_type in INTEGER_LAYERS and node.input[1] in constants


def _check(name: str, node: NodeProto, grid: Grid, weight: np.ndarray) -> None:
    half = 2 ** (grid.bits - 1)
    if not 2 <= grid.bits <= 8 or grid.codes.dtype != np.int8 or grid.scales.dtype != np.float32:
        raise BadInput(f"{name}: a grid has int8 codes of 2 to 8 bits and float32 scales, not {grid.bits} bits")
    if grid.codes.min(initial=0) < -half or grid.codes.max(initial=0) >= half:
        raise BadInput(f"{name}: its codes go beyond {grid.bits} bits, which hold {-half}..{half - 1}")
    if not (np.isfinite(grid.scales).all() and (grid.scales > 0).all()):
        raise BadInput(f"{name}: a scale is not positive and finite")
    stored = _oriented(node, grid.values)
    if stored.shape != weight.shape:
        raise BadInput(f"{name}: the grid is {list(stored.shape)} where the graph's weight is {list(weight.shape)}")
    if not np.allclose(stored, weight, rtol=1e-5, atol=0):
        raise BadInput(f"{name}: the graph's weight is not the grid's codes times scales; export the baked model")
    given = attributes(node)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA"):
        raise BadInput(f"{name}: has an alpha, beta or transA; fold them into its weight and bias")


def _oriented(node: NodeProto, weight: np.ndarray) -> np.ndarray:
    """A weight that begins with its outputs, laid out as `node` reads it."""
    return np.ascontiguousarray(np.moveaxis(weight, 0, output_axis(node, weight.ndim)))


def _input_scales(
    model: ModelProto, calls: list[NodeProto], constants: Mapping[str, np.ndarray]
) -> dict[str, np.float32]:
    """The scale of what each of `calls` reads, by name."""
    makers = {name: node for node in model.graph.node for name in node.output}
    scales = {}
    for node in calls:
        x = makers.get(node.input[0])
        scale = constants.get(x.input[1]) if x is not None and x.op_type == "DequantizeLinear" else None
        if scale is None or scale.size != 1:
            raise BadInput(f"{node.name}: its weight is quantised, what it reads is not; quantise that edge too")
        scales[node.name] = np.float32(scale.item())
    return scales


def _with_room(
    grid: Grid, calls: list[NodeProto], scales: Mapping[str, np.float32], constants: Mapping[str, np.ndarray]
) -> Grid:
    """`grid`, or one with larger scales for channels so small (batch norm has switched them off) that their bias would
    leave 32 bits. The weight's own part in such a sum is far below a step of the output."""
    biases = [(node, _bias(node, len(grid.scales), constants)) for node in calls]
    floors = [np.abs(bias) / (MAX_BIAS * float(scales[node.name])) for node, bias in biases if bias is not None]
    least = np.max([np.zeros(len(grid.scales)), *floors], axis=0)
    if (grid.scales >= least).all():
        return grid
    wide = np.maximum(grid.scales, least).astype(np.float32)
    shrink = (grid.scales / wide).reshape(-1, *[1] * (grid.codes.ndim - 1))
    return Grid(np.rint(grid.codes * shrink).astype(np.int8), wide, grid.bits)


def _moved_up(
    grid: Grid,
    calls: list[NodeProto],
    scales: Mapping[str, np.float32],
    constants: Mapping[str, np.ndarray],
    reads: int,
) -> Grid:
    """The same values in the upper bits of a byte, with smaller scales. A bias is rounded to steps of s_x * s_w, which
    at 2 to 4 bits are a good part of an output's step; every bit that the codes move up halves them. `reads`: the
    highest code of what the layers read; two products must still fit 16 bits (see `quantize.safe16_range`)."""
    largest = int(np.abs(grid.codes.astype(np.int16)).max(initial=1))
    room = [127 // largest if (grid.codes == largest).any() else 128 // largest]
    if not (grid.codes.ndim > 2 and grid.codes.shape[1] == 1):  # depthwise layers are computed without pairs
        pairs = float(safe16_range(grid.codes.astype(np.float32)).max())
        room.append(int((2**15 - 1) // (max(pairs, 1) * reads)))
    for node in calls:
        if len(node.input) > 2 and node.input[2] in constants:
            steps = float(scales[node.name]) * grid.scales.astype(np.float64)
            most = float((np.abs(constants[node.input[2]].ravel()) / steps).max(initial=0))
            room.append(int(MAX_BIAS // max(most, 1)))
    shift = max(min(room), 1).bit_length() - 1
    return Grid(grid.codes << shift, (grid.scales / 2**shift).astype(np.float32), grid.bits)


def _highest_code(model: ModelProto, node: NodeProto, constants: Mapping[str, np.ndarray]) -> int:
    """Of what a layer reads: the upper bound of the Clip in front of its DequantizeLinear, else a byte's."""
    makers = {name: made for made in model.graph.node for name in made.output}
    codes = makers.get(makers[node.input[0]].input[0])
    bounded = codes is not None and codes.op_type == "Clip" and len(codes.input) > 2 and codes.input[2] in constants
    return int(constants[codes.input[2]]) if codes is not None and bounded else 255


def _store_weight(model: ModelProto, calls: list[NodeProto], grid: Grid) -> None:
    """Puts the codes and a DequantizeLinear where `calls`, which share it, read their float weight."""
    weight, axis = calls[0].input[1], output_axis(calls[0], grid.codes.ndim)
    tensors = {
        f"{weight}_quantized": _oriented(calls[0], grid.codes),
        f"{weight}_scale": grid.scales,
        f"{weight}_zero_point": np.zeros(len(grid.scales), np.int8),  # without, ONNX Runtime computes a Gemm in floats
    }
    _dequantise(model, tensors, weight, axis)
    for node in calls:
        node.input[1] = f"{weight}_dequantized"


def _store_bias(model: ModelProto, node: NodeProto, scale: np.ndarray, constants: Mapping[str, np.ndarray]) -> None:
    """`scale`: float32 [out], of the accumulators."""
    bias = _bias(node, len(scale), constants)
    if bias is not None:
        name = f"{node.name}.bias"
        codes = np.rint(bias / scale).astype(np.int32)
        _dequantise(model, {f"{name}_quantized": codes, f"{name}_scale": scale}, name, 0)
        node.input[2] = f"{name}_dequantized"


def _bias(node: NodeProto, outputs: int, constants: Mapping[str, np.ndarray]) -> np.ndarray | None:
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
