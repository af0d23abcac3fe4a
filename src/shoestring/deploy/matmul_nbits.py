"""Linear layers at 4 and 2 bits: `com.microsoft.MatMulNBits`, the one low-bit operator that stock runtimes execute.

ONNX Runtime quantises what the layer reads to 8 bits on the fly (accuracy_level=4), block by block, and multiplies
integers. OpenVINO reads the operator too, and multiplies floats. Our engine multiplies the codes of the graph's own
grid, exactly. Milliseconds of one layer, batch 1, one thread, on AVX2 without VNNI (2026-11-23; interleaved medians of
CPU time):

    inputs -> outputs   ONNX Runtime: fp32   int8   4 bits   2 bits    OpenVINO: fp32   int8   4 bits   2 bits
    1280 -> 1000                     0.122  0.040    0.057    0.044             0.239  0.228    0.250    0.250
    4096 -> 4096                     2.92   0.51     0.59     0.40              3.46   4.01     2.06     2.08

Without VNNI unpacking 4 bits costs what it saves, and 8 bits are as fast (with VNNI, 4 bits won 1.6-1.8x over 8): time
both forms where it matters. The weight takes a half or a quarter of the memory in any case.
The block is 128 inputs: ONNX Runtime multiplies 2 bits 70 to 200 times slower in blocks of 16 or 256, and at any other
accuracy level.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy.packing import STORED, pack, shift_of, unpack
from shoestring.deploy.rewrite import MAX_FILLED, attributes, drop_unused, infer, initialisers, readers

OPERATOR, DOMAIN = "MatMulNBits", "com.microsoft"
RUNTIMES = ("onnxruntime", "openvino", "engine")  # that read the operator
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
BLOCKS = (128, 64, 32)
ACCURACY = 4  # ONNX Runtime: what is read is quantised to 8 bits; every other level is float
# An output may be off by so many times the root of the summed squares of the largest rounding errors of its terms. By
# Hoeffding's inequality (1963, theorem 2) less than 2 exp(-4^2 / 2) = 0.07 % of outputs are off by more.
DEVIATIONS = 4.0


def lower(model: ModelProto, bits: Mapping[str, int], runtime: str) -> ModelProto:
    """A copy of `model` (normal form) in which the linear layers of `bits` (layer to bits of its weight) that fit into
    4 bits are MatMulNBits, with their bias added behind; layers of more bits, and all for a runtime without the
    operator, keep their 8-bit form. What a layer reads stays quantised: what was trained is what runs. Raises BadInput
    for codes beyond their bits."""
    result = ModelProto()
    result.CopyFrom(model)
    constants = initialisers(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        low = node.op_type in ("Gemm", "MatMul") and bits.get(node.name) in STORED and runtime in RUNTIMES
        weight = makers.get(node.input[1]) if low else None
        if weight is None or weight.op_type != "DequantizeLinear" or weight.input[0] not in constants:
            nodes.append(node)
            continue
        codes = np.moveaxis(constants[weight.input[0]], attributes(weight).get("axis", 1), 0)
        shift = shift_of(codes)
        scales = constants[weight.input[1]] * np.float32(2**shift)
        nodes.append(_encoded(result, node, codes >> shift, scales, bits[node.name]))
        if len(node.input) > 2 and node.input[2]:
            stored, scale = (constants[name] for name in makers[node.input[2]].input[:2])
            bias = (stored * scale.astype(np.float64)).astype(np.float32)
            result.graph.initializer.append(numpy_helper.from_array(bias, f"{node.name}/bias"))
            nodes[-1].output[0] = f"{node.name}/product"
            added = [nodes[-1].output[0], f"{node.name}/bias"]
            nodes.append(helper.make_node("Add", added, node.output, name=f"{node.name}/sum"))
    if any(node.op_type == OPERATOR for node in nodes):
        _take(result, nodes)
    return result


def as_floats(model: ModelProto) -> ModelProto:
    """A copy in which every MatMulNBits is a MatMul with the dequantised weight: what the operator approximates. Raises
    BadInput for those that are not as `lower` writes them."""
    result = ModelProto()
    result.CopyFrom(model)
    constants = initialisers(model)
    for node in result.graph.node:
        if node.op_type == OPERATOR:
            weight = f"{node.name}/weight"
            result.graph.initializer.append(numpy_helper.from_array(dequantised(node, constants).T.copy(), weight))
            node.CopyFrom(helper.make_node("MatMul", [node.input[0], weight], node.output, name=node.name))
    drop_unused(result)
    return result


def dequantised(node: NodeProto, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weight of a MatMulNBits, float32 [out, in]. Raises BadInput."""
    tensors = {name: numpy_helper.from_array(constants[name], name) for name in node.input if name in constants}
    if found := fault(node, tensors):
        raise BadInput(f"{node.name}: {found}; give the original's file")
    outputs, inputs, bits, block = _sizes(node)
    if outputs * (inputs + block) > MAX_FILLED:
        raise BadInput(f"{node.name}: its weight is {outputs} x {inputs}; at most {MAX_FILLED} elements are unpacked")
    packed, scales = (constants[name] for name in node.input[1:3])
    codes = unpack(packed.ravel(), bits, (outputs, -(-inputs // block), block))
    weight = codes * scales.astype(np.float32).reshape(outputs, -1, 1)
    floats: np.ndarray = weight.reshape(outputs, -1)[:, :inputs]
    return floats


def fault(node: NodeProto, constants: Mapping[str, TensorProto]) -> str | None:
    """Why a MatMulNBits is not as `lower` writes it: no `misfit`, 2 or 4 bits, the zero point in the middle."""
    found = misfit(node, constants)
    if found is None and (any(node.input[3:]) or _sizes(node)[2] not in STORED.values()):
        return "only 2 and 4 bits without zero points, an order or a bias inside of it are offered"
    return found


def misfit(node: NodeProto, constants: Mapping[str, TensorProto]) -> str | None:
    """Why a MatMulNBits is malformed: its weight and scales must be constants as long as its attributes say. ONNX
    Runtime runs some that are not. Allocates nothing."""
    sizes = _sizes(node)
    if any(type(size) is not int for size in sizes):
        return "K, N, bits and block_size are not all given"
    outputs, inputs, bits, block = sizes
    if bits not in (2, 4, 8) or block not in (16, 32, 64, 128, 256) or min(outputs, inputs) < 1:
        return f"{bits} bits in blocks of {block} for {outputs} x {inputs} weights do not exist"
    packed, scales = (constants.get(name, TensorProto()) for name in (*node.input[1:3], "", "")[:2])
    blocks = -(-inputs // block)
    if packed.data_type != TensorProto.UINT8 or list(packed.dims) != [outputs, blocks, block * bits // 8]:
        return f"its weight is {list(packed.dims)}, not bytes {[outputs, blocks, block * bits // 8]}"
    if scales.data_type not in _FLOATS or math.prod(scales.dims) != outputs * blocks:
        return f"it has {list(scales.dims)} scales, not {outputs} x {blocks} floats"
    return None


def tolerance(node: NodeProto, x: np.ndarray, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """How far a MatMulNBits on `x` [..., in] may be from the product with its dequantised weight: [..., out].

    Each block of inputs is rounded to 127 steps up to its largest value a, so each of its inputs is off by at most
    a / 254, and that times its weight is what an output is off by: DEVIATIONS * sqrt(sum((a / 254 * w)^2))."""
    outputs, inputs, _, block = _sizes(node)
    padding = -inputs % block
    weight = np.pad(dequantised(node, constants).astype(np.float64), ((0, 0), (0, padding)))
    blocks = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padding)]).reshape(*x.shape[:-1], -1, block)
    half_steps = np.abs(blocks).max(axis=-1).astype(np.float64) / 254
    energies = np.square(weight).reshape(outputs, -1, block).sum(axis=-1)
    allowed: np.ndarray = DEVIATIONS * np.sqrt(np.square(half_steps) @ energies.T)
    return allowed


def _sizes(node: NodeProto) -> tuple[Any, Any, Any, Any]:
    """Outputs, inputs, bits, block size: whole numbers, unless a stranger wrote them."""
    given = attributes(node)
    return given.get("N"), given.get("K"), given.get("bits"), given.get("block_size")


def _encoded(model: ModelProto, node: NodeProto, codes: np.ndarray, scales: np.ndarray, bits: int) -> NodeProto:
    """The operator with `codes` [out, in] and `scales` [out]; its tensors go into `model`."""
    (outputs, inputs), stored = codes.shape, STORED[bits]
    block = min(BLOCKS, key=lambda size: -(-inputs // size) * (size * stored / 8 + 4))
    blocks = -(-inputs // block)
    padded = np.pad(codes, ((0, 0), (0, blocks * block - inputs)))
    try:
        packed = pack(padded, stored).reshape(outputs, blocks, -1)
    except ValueError as error:
        raise BadInput(f"{node.name}: {error}") from None
    tensors = {f"{node.name}/packed": packed, f"{node.name}/scales": np.repeat(scales, blocks)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    settings = {"K": inputs, "N": outputs, "bits": stored, "block_size": block, "accuracy_level": ACCURACY}
    read = [node.input[0], *tensors]
    return helper.make_node(OPERATOR, read, node.output, name=node.name, domain=DOMAIN, **settings)


def _take(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Gives `model` these nodes, without what dequantised the weights that they no longer read."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = readers(model)
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.output[0] not in read:
            model.graph.node.remove(node)
    drop_unused(model)
    if DOMAIN not in {item.domain for item in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    model.CopyFrom(infer(model))
