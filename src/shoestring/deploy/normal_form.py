"""The QDQ normal form and its checker: the one form our quantisers emit and integer executors accept.

Opset 21, IR 10. Activations u8 per tensor; weights s8 per output channel, zero point 0, stored as int8 constants; bias
int32 at scale s_x * s_w; one quantise/dequantise pair an edge, with a Clip of the codes between where they have fewer
than 8 bits; after ReLU and ReLU6 the zero point is 0; the ranges contain 0. What stays float (a swish between a
dequantise and a quantise, a layer left at fp32) is allowed, and so are MatMulNBits as `matmul_nbits` writes them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from shoestring.core.errors import BadInput
from shoestring.deploy import matmul_nbits
from shoestring.deploy.rewrite import IR_VERSION, OPSET, attributes, initialisers, readers

INTEGER_LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class _View:
    """A graph with its constants and who makes and reads each tensor."""

    constants: Mapping[str, np.ndarray]
    makers: Mapping[str, NodeProto]
    readers: Mapping[str, list[NodeProto]]


def violations(model: ModelProto) -> list[str]:
    """What is outside the normal form, one line each, naming the node. Empty when all is well."""
    makers = {out: node for node in model.graph.node for out in node.output}
    view, stored = _View(initialisers(model), makers, readers(model)), {t.name: t for t in model.graph.initializer}
    found = list(_header(model))
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            found += _activation(node, view)
        elif node.op_type in INTEGER_LAYERS:
            found += _weighted(node, view)
        elif node.op_type == matmul_nbits.OPERATOR and (fault := matmul_nbits.fault(node, stored)):
            found.append(f"{node.name}: {fault}")
    return found


def require(model: ModelProto) -> None:
    """Raises BadInput with the first violation."""
    found = violations(model)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BadInput(f"normal form: {found[0]}{more}; quantise the float original with `shoestring fit`")


def is_quantised(model: ModelProto) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in model.graph.node)


def _header(model: ModelProto) -> Iterator[str]:
    opsets = {item.domain: item.version for item in model.opset_import}
    if opsets.get("", 0) != OPSET:
        yield f"the graph is opset {opsets.get('')}, not {OPSET}"
    if model.ir_version != IR_VERSION:
        yield f"the graph is IR {model.ir_version}, not {IR_VERSION}"


def _activation(node: NodeProto, view: _View) -> Iterator[str]:
    """A QuantizeLinear: u8, per tensor, its only reader a DequantizeLinear of the same grid."""
    scale, zero = (view.constants.get(name) for name in (*node.input[1:3], "", "")[:2])
    if node.input[0] in view.constants:
        yield f"{node.name}: a weight is quantised at run time; store it as int8"
        return
    if scale is None or zero is None or scale.size != 1 or zero.dtype != np.uint8:
        yield f"{node.name}: activations are u8 per tensor with a constant scale and zero point"
        return
    maker = view.makers.get(node.input[0])
    bounded = maker is not None and (
        maker.op_type == "Relu" or (maker.op_type == "Clip" and _at_least_zero(maker, view.constants))
    )
    if bounded and int(zero.item()) != 0:
        yield f"{node.name}: after {maker.op_type if maker else ''} the zero point is {int(zero.item())}, not 0"
    for reader in view.readers.get(node.output[0], []):
        if reader.op_type == "Clip" and reader.input[0] == node.output[0]:
            yield from _bounded_codes(reader, node, view)
        else:
            yield from _read(reader, node, view.constants)


def _bounded_codes(clip: NodeProto, node: NodeProto, view: _View) -> Iterator[str]:
    """The Clip of the codes that `node` writes, for fewer than 8 bits: u8 constants. The zero point, which padding has,
    need not lie between them: the codes of a tensor that is never 0 are shifted within their byte."""
    low, high = (view.constants.get(name, np.zeros(0)) for name in (*clip.input[1:3], "", "")[:2])
    if not (low.size == high.size == 1 and low.dtype == high.dtype == np.uint8):
        yield f"{clip.name}: codes are clipped between two u8 constants"
    elif low.item() >= high.item():
        yield f"{clip.name}: {low.item()}..{high.item()} is no range of codes"
    for reader in view.readers.get(clip.output[0], []):
        yield from _read(reader, node, view.constants)


def _read(reader: NodeProto, node: NodeProto, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What reads the codes of `node` is a DequantizeLinear of the same grid."""
    if reader.op_type != "DequantizeLinear" or not _same_grid(reader, node, constants):
        yield f"{node.name}: is read by {reader.op_type} {reader.name}, not by its own DequantizeLinear"


def _weighted(node: NodeProto, view: _View) -> Iterator[str]:
    """A convolution or matrix product in integers: its weight and bias. One with a float weight is a float layer."""
    weight = view.makers.get(node.input[1])
    if weight is None or weight.op_type != "DequantizeLinear" or weight.input[0] not in view.constants:
        return
    codes, scales = view.constants[weight.input[0]], view.constants.get(weight.input[1])
    if codes.dtype != np.int8:
        yield f"{node.name}: the weight is stored as {codes.dtype}, not int8"
        return
    zeros = view.constants.get(weight.input[2]) if len(weight.input) > 2 else np.int8(0)
    if scales is None or zeros is None or np.any(zeros):
        yield f"{node.name}: the weight's zero point is not 0"
        return
    axis, outputs = attributes(weight).get("axis", 1) % codes.ndim, output_axis(node, codes.ndim)
    if scales.size != codes.shape[outputs] or (scales.size > 1 and axis != outputs):
        yield f"{node.name}: the weight has {scales.size} scales along axis {axis}, not one for each output"
    x = view.makers.get(node.input[0])
    if x is None or x.op_type != "DequantizeLinear" or x.input[1] not in view.constants:
        yield f"{node.name}: the weight is quantised, its input is not"
        return
    if len(node.input) > 2 and node.input[2]:
        yield from _bias(node, view, view.constants[x.input[1]], scales)


def _bias(node: NodeProto, view: _View, x_scale: np.ndarray, weight_scales: np.ndarray) -> Iterator[str]:
    bias = view.makers.get(node.input[2])
    stored = bias is not None and bias.op_type == "DequantizeLinear"
    codes, scale = (view.constants.get(name) for name in bias.input[:2]) if bias and stored else (None, None)
    if codes is None or scale is None or codes.dtype != np.int32:
        yield f"{node.name}: the bias is not stored as int32"
        return
    expected = np.float32(x_scale) * weight_scales.astype(np.float32)
    # The product is one float32 rounding; one unit in the last place covers another order of multiplication.
    if not np.allclose(scale, expected, rtol=2e-7, atol=0):
        yield f"{node.name}: the bias's scale is not the input's scale times the weight's"


def output_axis(node: NodeProto, rank: int) -> int:
    """The axis of a weighted node's weight that runs over its outputs."""
    if node.op_type == "Conv":
        return 0
    transposed = node.op_type == "Gemm" and bool(attributes(node).get("transB", 0))
    return 0 if transposed else rank - 1


def _at_least_zero(clip: NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    low = constants.get(clip.input[1]) if len(clip.input) > 1 else None
    return low is not None and low.item() >= 0


def _same_grid(a: NodeProto, b: NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    if len(a.input) != len(b.input):
        return False
    pairs = zip(a.input[1:], b.input[1:], strict=True)
    return all(np.array_equal(constants.get(left, 0), constants.get(right, 1)) for left, right in pairs)
