"""Grids that were learned in training, realised in the QDQ normal form: what was trained is what runs.

The activations of the graph carry their grids already (QuantizeLinear, a Clip of the codes below 8 bits,
DequantizeLinear, as the exporter writes them); here the weights and biases get theirs.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto

from shoestring.core.errors import BadInput
from shoestring.core.grid import Grid
from shoestring.deploy.grids import highest_code, moved_up, oriented, store_bias, store_weight, with_room
from shoestring.deploy.normal_form import INTEGER_LAYERS
from shoestring.deploy.quantize import keep_float
from shoestring.deploy.rewrite import attributes, drop_unused, infer, initialisers
from shoestring.deploy.saturation import bound_codes

_BYTE = 8


def realise(graph: ModelProto, grids: Mapping[str, Grid], most: Mapping[str, int] | None = None) -> ModelProto:
    """A copy of `graph` (float weights equal to their grids' values, activations quantised) in which the layers of
    `grids` (layer to Grid) store their weight as int8 and their bias as int32 at float32(s_x * s_w).

    A ReLU or Clip that only quantisers read becomes a bound of their codes: rounding is monotone, so nothing changes,
    and runtimes keep the integer kernel. Layers without a grid stay float. Codes of few bits move up in their byte, by
    `most` at most (layer to bits; as far as arithmetic allows without). Raises BadInput for a grid without a layer, of
    another shape or with other values than the graph, with codes beyond its bits, and for a layer that reads floats.
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
        roomy = with_room(grids[name], own, scales, constants)
        reads = max(highest_code(result, node, constants) for node in own)
        roomy = moved_up(roomy, own, scales, constants, reads, (most or {}).get(name, _BYTE - 1))
        store_weight(result, own, roomy)
        for node in own:
            store_bias(result, node, scales[node.name] * roomy.scales, constants)
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
    stored = oriented(node, grid.values)
    if stored.shape != weight.shape:
        raise BadInput(f"{name}: the grid is {list(stored.shape)} where the graph's weight is {list(weight.shape)}")
    if not np.allclose(stored, weight, rtol=1e-5, atol=0):
        raise BadInput(f"{name}: the graph's weight is not the grid's codes times scales; export the baked model")
    given = attributes(node)
    if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA"):
        raise BadInput(f"{name}: has an alpha, beta or transA; fold them into its weight and bias")


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
