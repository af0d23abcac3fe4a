"""An 8-bit file of ours in the form that SparseML exports and DeepSparse executes.

DeepSparse 1.8.0 refuses our files (`DequantizeLinear` with a scale a channel, weights behind one at all) and hands them
whole to the ONNX Runtime it brings. What it executes itself is a layer as SparseML writes it:

    QuantizeLinear -> ConvInteger or MatMulInteger -> Add (int32 bias) -> Cast -> Mul (scales of input and weight)

The same weights, zeros and activation grids. SparseML has one scale a layer, so `per_tensor` moves the weights onto
the coarsest of the layer's scales; otherwise the codes stay as they are and the Mul has a scale a channel. The version
numbers are those of its ONNX Runtime, 1.15.
"""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from shoestring.deploy.rewrite import drop_unused, initialisers

OPSET, IR_VERSION = 13, 8


def sparseml_form(model: ModelProto, per_tensor: bool) -> ModelProto:
    """A copy of a normal-form `model`, its convolutions and Gemm layers rewritten."""
    rewriting = _Rewriting(model, per_tensor)
    nodes = [new for node in model.graph.node for new in rewriting.nodes(node)]
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:], copy.graph.value_info[:]
    copy.graph.node.extend(_used(nodes, {value.name for value in model.graph.output}))
    copy.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in rewriting.added.items())
    drop_unused(copy)
    copy.opset_import[0].version, copy.ir_version = OPSET, IR_VERSION
    checker.check_model(copy)
    return copy


class _Rewriting:
    """What one model's layers need; `added`: the new constants."""

    def __init__(self, model: ModelProto, per_tensor: bool):
        self._constants = initialisers(model)
        self._writers = {name: node for node in model.graph.node for name in node.output}
        self._per_tensor = per_tensor
        self.added: dict[str, np.ndarray] = {}

    def nodes(self, node: NodeProto) -> Iterator[NodeProto]:
        if node.op_type not in ("Conv", "Gemm"):
            yield node
            return
        name, convolution, x = node.name, node.op_type == "Conv", self._writers[node.input[0]]
        codes, scale = self._weight(node)
        scales = self._constants[x.input[1]] * scale
        bias = np.rint(self._dequantised_bias(node) / scales).astype(np.int32)
        if convolution:
            bias, scales = bias[:, None, None], scales[:, None, None]
        if self._per_tensor:
            scales = scales.flat[0]
        weight = self._add(f"{name}/codes", codes if convolution else codes.T)
        zero = self._add(f"{name}/zero", np.zeros((), np.int8))
        kind, taken = ("ConvInteger", node.attribute) if convolution else ("MatMulInteger", [])
        layer = helper.make_node(kind, [x.input[0], weight, x.input[2], zero], [f"{name}/sum"], name=name)
        layer.attribute.extend(taken)
        yield layer
        inputs = [f"{name}/sum", self._add(f"{name}/bias", bias)]
        yield helper.make_node("Add", inputs, [f"{name}/biased"], name=f"{name}/add")
        yield helper.make_node("Cast", [f"{name}/biased"], [f"{name}/float"], name=f"{name}/cast", to=TensorProto.FLOAT)
        inputs = [f"{name}/float", self._add(f"{name}/scales", np.asarray(scales, np.float32))]
        yield helper.make_node("Mul", inputs, list(node.output), name=f"{name}/mul")

    def _weight(self, node: NodeProto) -> tuple[np.ndarray, np.ndarray]:
        """Codes s8 [out, ...] and scale float64 [out], all alike where there shall be one."""
        codes, scale = (self._constants[name] for name in self._writers[node.input[1]].input[:2])
        scale = scale.astype(np.float64)
        if not self._per_tensor:
            return codes, scale
        coarsest = np.full_like(scale, scale.max())
        moved = np.rint(codes * (scale / coarsest).reshape(-1, *[1] * (codes.ndim - 1)))
        return moved.astype(np.int8), coarsest

    def _dequantised_bias(self, node: NodeProto) -> np.ndarray:
        codes, scale = (self._constants[name] for name in self._writers[node.input[2]].input[:2])
        return codes * scale.astype(np.float64)

    def _add(self, name: str, array: np.ndarray) -> str:
        self.added[name] = np.ascontiguousarray(array)
        return name


def _used(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Those that lead to an output, in their order."""
    kept, wanted = [], set(outputs)
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
