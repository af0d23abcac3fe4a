"""Post-training static quantisation of a float graph into the QDQ normal form, by onnxruntime.quantization.

Activations u8 per tensor, weights s8 per output channel and stored as integers, bias int32. Swish-like activations stay
float between a dequantise and a quantise. The last layer writes floats.
"""

import logging
from collections.abc import Iterable, Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType

from shoestring.core.errors import BadInput
from shoestring.core.precision import FLOAT, INT8, INT8_SAFE16, Precision
from shoestring.deploy.calibrate import Range
from shoestring.deploy.geometry import TAKE, values_of
from shoestring.deploy.normal_form import INTEGER_LAYERS, output_axis
from shoestring.deploy.rewrite import ACTIVATIONS, IR_VERSION, WEIGHTED, attributes, drop_unused, infer, initialisers

# Carried along in integers when everything that feeds them is.
_FOLLOWERS = (
    "Add",
    "Mul",
    "Concat",
    "GlobalAveragePool",
    "AveragePool",
    "MaxPool",
    "Resize",
    "Flatten",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Pad",
    "Split",
    "ReduceMax",
    TAKE,
)
# The same values in other places, or some of them: one grid on both sides.
_MOVES = ("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "ReduceMax", TAKE)
_SATURATING = ("Relu", "Clip")
_GATES = ("Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Erf")


def quantised_nodes(model: ModelProto, precisions: Mapping[str, Precision]) -> list[str]:
    """Names of the nodes to run in integers: the weighted ones whose precision says so, and those that follow them."""
    return [node.name for node in _nodes(model, precisions)]


def activations(model: ModelProto, precisions: Mapping[str, Precision]) -> list[str]:
    """The tensors that need a range: what the quantised nodes read and write, but constants and what a following
    Clip or Relu bounds (its own output's range is the one that counts)."""
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = _nodes(model, precisions)
    bounded = set(_bounded(model, nodes))
    names = (name for node in nodes for name in [*values_of(node), *node.output])
    return list(dict.fromkeys(name for name in names if name not in constants | bounded))


def quantise(model: ModelProto, ranges: Mapping[str, Range], precisions: Mapping[str, Precision]) -> ModelProto:
    """`model` (float, tidied) with the weighted nodes of `precisions` at their bits: 8-bit activations over `ranges`,
    weights in s8. Raises BadInput for layers and precisions that static post-training quantisation cannot give."""
    for name, precision in precisions.items():
        if precision not in (FLOAT, INT8, INT8_SAFE16):
            raise BadInput(f"int8: {name} cannot be {precision}; post-training quantisation offers 8 bits")
    _require_layers(model, [name for name, precision in precisions.items() if precision.quantised])
    nodes = _nodes(model, precisions)
    if not nodes:
        return model
    known = dict(ranges)
    known.update(_open_gates(model, known))
    for before, after in reversed(_bounded(model, nodes).items()):  # backwards: a Clip may follow a Relu
        known[before] = known[after]
    for node in nodes:
        if node.op_type in _MOVES and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    quantiser = QDQQuantizer(
        infer(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax,
            {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in known.items()},
        ),
        nodes_to_quantize=quantised_nodes(model, precisions),
        nodes_to_exclude=[],
        op_types_to_quantize=[*WEIGHTED, *_SATURATING, *_FOLLOWERS],
        extra_options={"TensorQuantOverrides": _overrides(model, precisions), "WeightSymmetric": True},
    )
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the library warns on the root logger about its own choices
    try:
        quantiser.quantize_model()
    finally:
        logging.getLogger().setLevel(level)
    quantiser.model.topological_sort()
    result: ModelProto = quantiser.model.model
    _float_outputs(result)
    keep_float(result)
    drop_unused(result)
    result.ir_version = IR_VERSION
    return infer(result)


def _nodes(model: ModelProto, precisions: Mapping[str, Precision]) -> list[NodeProto]:
    """In graph order. A follower joins when all tensors that feed it come from integer nodes; a swish's product does
    not: it stays float with its gate. Neither does a Relu that writes an output, or a Clip that no grid can replace."""
    integer: set[str] = set()
    constants, outputs = initialisers(model), {value.name for value in model.graph.output}
    gates = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in _GATES}
    chosen: list[NodeProto] = []
    for node in model.graph.node:
        inputs = [name for name in values_of(node) if name not in constants]
        if node.op_type in WEIGHTED:
            take = precisions.get(node.name, FLOAT).quantised
        elif node.op_type in _SATURATING:
            take = node.input[0] in integer and node.output[0] not in outputs and _holds_zero(node, constants)
        elif node.op_type == "Mul" and any(gates.get(name) in inputs for name in inputs):
            take = False
        else:
            take = node.op_type in _FOLLOWERS and bool(inputs) and all(name in integer for name in inputs)
        if take:
            chosen.append(node)
        # What a float node makes of integers (a swish, a gate) is quantised again by the next integer node.
        if take or (inputs and all(name in integer for name in inputs)):
            integer.update(node.output)
    return chosen


def _require_layers(model: ModelProto, names: Iterable[str]) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    layers = {n.name: n for n in model.graph.node if n.op_type in INTEGER_LAYERS and n.input[1] in constants}
    for name in names:
        if name not in layers:
            raise BadInput(f"int8: the graph has no convolution or linear layer {name!r} with a constant weight")
        given = attributes(layers[name])
        if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA"):
            raise BadInput(f"int8: {name} has an alpha, beta or transA; fold them into its weight and bias")


def _holds_zero(node: NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    """True when a quantiser's range, which always holds zero, can saturate like this Relu or Clip."""
    bounds = [constants.get(name, np.array(np.nan)).item() if name else 0.0 for name in node.input[1:]]
    low, high = [*bounds, 0.0, 0.0][:2]
    return bool(low <= 0 <= high)  # a bound that is no constant is NaN here, and compares false


def _bounded(model: ModelProto, nodes: Iterable[NodeProto]) -> dict[str, str]:
    """Input to output of each Clip or Relu that becomes the saturation of the quantiser behind it: where nothing else
    sees its input."""
    outputs = {value.name for value in model.graph.output}
    alone = (node for node in nodes if node.op_type in _SATURATING and _readers(model.graph.node, node.input[0]) == 1)
    return {node.input[0]: node.output[0] for node in alone if node.input[0] not in outputs}


def _open_gates(model: ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges of the sigmoids that reach 1: a little more than that. On a grid of 1/255 the sigmoid of zero, 1/2, falls
    on a rounding border, and runtimes round it to either side (found by the parity gate); on one of 1/254 its product
    with every odd code does."""
    gates = {node.output[0] for node in model.graph.node if node.op_type in ("Sigmoid", "HardSigmoid")}
    return {name: (low, 1.001) for name, (low, high) in ranges.items() if name in gates and high > 254 / 255}


def _overrides(model: ModelProto, precisions: Mapping[str, Precision]) -> dict[str, list[dict[str, object]]]:
    """A range per output channel for the weights that must be `safe16`."""
    constants = initialisers(model)
    overrides: dict[str, list[dict[str, object]]] = {}
    for node in model.graph.node:
        if node.op_type in WEIGHTED and precisions.get(node.name, FLOAT).safe16 and node.input[1] in constants:
            weight = constants[node.input[1]]
            axis = output_axis(node, weight.ndim)
            bounds = safe16_range(np.moveaxis(weight, axis, 0))
            overrides[node.input[1]] = [
                {"quant_type": QuantType.QInt8, "axis": axis, "symmetric": True, "rmin": -bound, "rmax": bound}
                for bound in bounds
            ]
    return overrides


def safe16_range(weight: np.ndarray) -> np.ndarray:
    """The range [out] per output channel of `weight` [out, in, ...] for which |w| <= 127 steps and two neighbouring
    inputs (2i, 2i + 1: the pairs that `vpmaddubsw` adds) sum to at most 127 steps, so to 128 after rounding:
    128 * 255 < 2^15. With an odd number of inputs the pairs depend on the runtime, so any two count."""
    rows = weight.reshape(*weight.shape[:2], -1)
    largest = np.abs(rows).max(axis=(1, 2))
    for signed in (np.maximum(rows, 0), np.maximum(-rows, 0)):
        if rows.shape[1] % 2:
            flat = np.sort(signed.reshape(len(rows), -1), axis=1)
            pairs = flat[:, -2:].sum(axis=1)
        else:
            pairs = (signed[:, 0::2] + signed[:, 1::2]).max(axis=(1, 2))
        largest = np.maximum(largest, pairs)
    return np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float32)


def _float_outputs(model: ModelProto) -> None:
    """Removes the quantise/dequantise pair between a last layer and a graph's output (or the activation that writes
    it): a runtime then writes float accumulators."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        last, readers = producers.get(output.name), 0
        if last is not None and last.op_type in ACTIVATIONS:
            last, readers = producers.get(last.input[0]), 1
        if last is None or last.op_type != "DequantizeLinear" or _readers(graph.node, last.output[0]) != readers:
            continue
        first = producers.get(last.input[0])
        source = producers.get(first.input[0]) if first is not None else None
        if first is None or source is None or source.op_type not in WEIGHTED:
            continue
        if _readers(graph.node, source.output[0]) == _readers(graph.node, first.output[0]) == 1:
            source.output[0] = last.output[0]
            graph.node.remove(first)
            graph.node.remove(last)


def keep_float(model: ModelProto) -> None:
    """Puts a sum of one term, which changes nothing, in front of every float layer that reads a dequantised edge.
    ONNX Runtime quantises the weights of such a layer on its own when its output is quantised, per tensor and unasked
    (found by the parity gate); the sum keeps the layer in float."""
    constants = {tensor.name for tensor in model.graph.initializer}
    dequantised = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type in WEIGHTED and node.input[0] in dequantised and node.input[1] in constants:
            kept = f"{node.name}/float"
            nodes.append(helper.make_node("Sum", [node.input[0]], [kept], name=kept))
            node.input[0] = kept
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _readers(nodes: Iterable[NodeProto], tensor: str) -> int:
    return sum(list(node.input).count(tensor) for node in nodes)
