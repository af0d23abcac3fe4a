"""Inventory: what a captured network computes, layer by layer in execution order, as plain data."""

import math
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.flop_counter import FlopCounterMode

from shoestring.core.layer import LINEAR, OTHER, Layer, conv_kind
from shoestring.geometry.operators import FARTHEST, NEAREST, WITHIN
from shoestring.graph.capture import example_input, source_line
from shoestring.graph.fold import foldable
from shoestring.graph.nodes import ACTIVATION, operation
from shoestring.graph.sums import Sum

_CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d}
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")  # of those and of F.linear
_POOLED = re.compile(".*pool|mean|sum|amax")
_AMONG = (FARTHEST, NEAREST, WITHIN)  # which look at all points for each that they write
_FREE = re.compile("identity|dropout|flatten|unflatten|view|reshape|squeeze|unsqueeze|contiguous|getitem")


def inventory(gm: fx.GraphModule, input_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """Every node of `gm` that computes something from the input, in execution order, at `input_shape` (no batch axis).

    An activation right after a convolution or linear layer belongs to it and is not listed; neither is a batch norm
    that `fold` would fold (its shift is the layer's bias), nor what only renames data (reshape). `macs` are the
    multiply-accumulates of dot products, so that their sum is the figure papers print; elementwise work has none. Names
    are module paths (`blocks.1.layers.0.0`), for functions the names of fx nodes; the second call of a module is
    `name:2`.
    """
    recorder = _Recorder(gm)
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operation, whose products cannot be counted
    try:
        with torch.no_grad():
            recorder.run(example_input(gm, input_shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    return tuple(recorder.layers)


class _Recorder(fx.Interpreter):
    """Runs the graph once and writes down what each node does."""

    def __init__(self, gm: fx.GraphModule):
        super().__init__(gm)
        self.gm = gm
        self.layers: list[Layer] = []
        self._live: set[fx.Node] = set()  # what depends on the input; the rest is constant in a deployed file
        # Convolutions and linear layers, or the batch norms that go into them: where they are in `layers`.
        self._weighted: dict[fx.Node, int] = {}
        self._names: Counter[str] = Counter()

    def run_node(self, n: fx.Node) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = super().run_node(n)
        if n.op == "placeholder" or self._live.intersection(n.all_input_nodes):
            self._live.add(n)
            if n.op.startswith("call_"):
                self._record(n, result, counter.get_total_flops() // 2)
        return result

    def _record(self, node: fx.Node, result: Any, macs: int) -> None:
        module = self.fetch_attr(str(node.target)) if node.op == "call_module" else None
        name = self._unique(node.name if module is None else str(node.target))
        op, output = operation(node, module), _first_tensor(result)
        if output is None or _FREE.fullmatch(op.lower()) or self._belongs(node, module, op):
            return
        weights = _of_module(module) if module is not None else self._of_function(node)
        if weights["kind"] != OTHER:
            self._weighted[node] = len(self.layers)
        inputs = [_first_tensor(self.env[source]) for source in node.all_input_nodes]
        given = next((tuple(value.shape[1:]) for value in inputs if value is not None), ())
        self.layers.append(
            Layer(
                name=name,
                op=op,
                input=given,
                output=tuple(output.shape[1:]),
                macs=macs,
                line=source_line(node),
                window=self._window(node, module, op, given, tuple(output.shape[1:])),
                **weights,
            )
        )

    def _window(
        self, node: fx.Node, module: nn.Module | None, op: str, given: tuple[int, ...], output: tuple[int, ...]
    ) -> int:
        if node.target in _AMONG:
            return int(self.env[node.all_input_nodes[-1]].shape[1])
        return _window(node, module, given, output) if _POOLED.fullmatch(op.lower()) else 1

    def _belongs(self, node: fx.Node, module: nn.Module | None, op: str) -> bool:
        """True when a runtime computes this node together with the weighted layer before it."""
        source = node.all_input_nodes[0]
        if source not in self._weighted or len(source.users) > 1:
            return False
        index = self._weighted[source]
        if isinstance(module, _BatchNorm) and foldable(self.gm, node):
            self._weighted[node] = index
            self.layers[index] = replace(self.layers[index], bias=True)
            return True
        if ACTIVATION.fullmatch(op.lower()) is None:
            return False
        self.layers[index] = replace(self.layers[index], activation=op.lower())
        return True

    def _of_function(self, node: fx.Node) -> dict[str, Any]:
        """The fields of a Layer that describe its weights, for a function such as F.conv2d(x, weight)."""
        if node.target not in _CONVOLUTIONS and node.target is not F.linear:
            return {"kind": OTHER}
        given: dict[str, Any] = dict(zip(_ARGUMENTS, node.args, strict=False)) | node.kwargs
        weight = tuple(self.env[given["weight"]].shape)
        fields = {"weight": weight, "bias": given.get("bias") is not None}
        if node.target is F.linear:
            return {"kind": LINEAR, **fields}
        stride, groups = given.get("stride", 1), given.get("groups", 1)
        stride = (stride,) * (len(weight) - 2) if isinstance(stride, int) else tuple(stride)
        return {"kind": conv_kind(weight, groups), "stride": stride, "groups": groups, **fields}

    def _unique(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}:{self._names[name]}"


def _of_module(module: nn.Module) -> dict[str, Any]:
    """The fields of a Layer that describe its weights. A module of several tensors counts as one flat tensor."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        total = sum(parameter.numel() for parameter in module.parameters())
        return {"kind": OTHER, "weight": (total,) if total else ()}
    shape = tuple(weight.shape)
    bias = isinstance(getattr(module, "bias", None), Tensor)
    if isinstance(module, _ConvTransposeNd):  # stored as IOHW
        shape = (module.out_channels, shape[0] // module.groups, *shape[2:])
        return {"kind": OTHER, "weight": shape, "bias": bias, "stride": module.stride, "groups": module.groups}
    if isinstance(module, _ConvNd):
        kind = conv_kind(shape, module.groups)
        fields = {"kind": kind, "weight": shape, "bias": bias, "fixed": isinstance(module, Sum)}
        return {**fields, "stride": module.stride, "groups": module.groups}
    kind = LINEAR if isinstance(module, nn.Linear) else OTHER
    return {"kind": kind, "weight": shape, "bias": bias, "fixed": isinstance(module, Sum)}


def _window(node: fx.Node, module: nn.Module | None, given: tuple[int, ...], output: tuple[int, ...]) -> int:
    """How many values one output of a pooling is made of: those under its kernel, or an equal share of the input."""
    kernel = getattr(module, "kernel_size", None)
    if module is None and len(node.args) > 1 and "_pool" in str(node.target) and "adaptive" not in str(node.target):
        kernel = node.args[1]
    if module is None:
        kernel = node.kwargs.get("kernel_size", kernel)
    if kernel is None:
        return math.prod(given) // max(1, math.prod(output))
    return math.prod(kernel) if isinstance(kernel, tuple | list) else int(kernel ** (len(output) - 1))


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := _first_tensor(item)) is not None), None)
    return value if isinstance(value, Tensor) else None
