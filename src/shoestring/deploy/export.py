"""From a torch module to a float ONNX file whose nodes carry the layers' names. The only file here that loads torch."""

import ast
import logging
import warnings
from collections.abc import Callable, Collection
from typing import Any

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.defs import OpSchema
from onnxscript import opset21
from onnxscript.values import Op, Opset
from torch import nn

from shoestring.core.errors import BadInput
from shoestring.deploy import geometry
from shoestring.deploy.rewrite import IR_VERSION, OPSET, WEIGHTED, tidy
from shoestring.geometry import operators
from shoestring.graph.marker import MARKER
from shoestring.graph.sums import TOTAL, Sum


def export(model: nn.Module, input_shape: tuple[int, ...]) -> ModelProto:
    """The float graph of `model` in eval mode for one input [1, *input_shape]: batch norm and padding folded by the
    exporter, then brought into the form the other files here expect (`rewrite.tidy`). Input "input", output "output".
    Markers (`graph.marker`) become quantise and dequantise nodes, operators on points (`geometry`) calls of functions
    that the file defines (`deploy.geometry`). Raises BadInput with the exporter's reason."""
    example = torch.zeros(1, *input_shape)
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter, which a user cannot act on
            program = torch.onnx.export(
                model.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
                custom_translation_table=_TRANSLATED,
                verbose=False,
            )
        graph: ModelProto = program.model_proto  # type: ignore[union-attr]  # None is only returned without dynamo
    except Exception as error:  # the exporter wraps whatever the model raised
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"export: {type(model).__name__} cannot be exported to ONNX: {reason}") from None
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    graph.ir_version = IR_VERSION
    geometry.define(graph)
    _name_layers(graph, {path for path, module in model.named_modules() if isinstance(module, Sum)})
    graph = tidy(graph)
    onnx.checker.check_model(graph)
    return graph


def _quantise_dequantise(x: Any, scale: float, zero_point: int, low: int, high: int) -> Any:
    """A marker in ONNX. A range narrower than a byte is cut off between the two: a Clip of integers is cheap, one of
    floats in front costs ONNX Runtime four times as much."""
    step: Any = opset21.Constant(value=helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]))
    zero: Any = opset21.Constant(value=helper.make_tensor("zero_point", TensorProto.UINT8, [], [zero_point]))
    codes: Any = opset21.QuantizeLinear(x, step, zero)
    if (low, high) != (0, 255):
        ends: Any = (
            opset21.Constant(value=helper.make_tensor(name, TensorProto.UINT8, [], [end]))
            for name, end in (("low", low), ("high", high))
        )
        codes = opset21.Clip(codes, *ends)
    return opset21.DequantizeLinear(codes, step, zero)


def _on_points(name: str, inputs: str, **given: "OpSchema.AttrType") -> Op:
    """An operator of `deploy.geometry` as the exporter wants to know it."""
    schema = OpSchema(
        name,
        geometry.DOMAIN,
        geometry.VERSION,
        inputs=[OpSchema.FormalParameter(one, f"T{place}") for place, one in enumerate(inputs.split())],
        outputs=[OpSchema.FormalParameter("found", "T0" if name == geometry.TAKE else "tensor(int64)")],
        type_constraints=[
            (f"T{place}", ["tensor(float)", "tensor(int64)"], "") for place in range(len(inputs.split()))
        ],
        attributes=[OpSchema.Attribute(one, kind, required=True) for one, kind in given.items()],
    )
    return Op(Opset(geometry.DOMAIN, geometry.VERSION), name, schema)


_COUNT = OpSchema.AttrType.INT
_FARTHEST = _on_points(geometry.FARTHEST, "xyz", count=_COUNT)
_NEAREST = _on_points(geometry.NEAREST, "centres xyz", count=_COUNT)
_WITHIN = _on_points(geometry.WITHIN, "centres xyz", count=_COUNT, radius=OpSchema.AttrType.FLOAT)
_TAKE = _on_points(geometry.TAKE, "x index")


def _farthest(xyz: Any, count: int) -> Any:
    return _FARTHEST(xyz, count=count)


def _nearest(centres: Any, xyz: Any, count: int) -> Any:
    return _NEAREST(centres, xyz, count=count)


def _within(centres: Any, xyz: Any, radius: float, count: int) -> Any:
    return _WITHIN(centres, xyz, count=count, radius=radius)


def _take(x: Any, index: Any) -> Any:
    return _TAKE(x, index)


_TRANSLATED: dict[Callable[..., Any], Callable[..., Any]] = {
    MARKER: _quantise_dequantise,
    operators.FARTHEST: _farthest,
    operators.NEAREST: _nearest,
    operators.WITHIN: _within,
    operators.TAKE: _take,
}


def _name_layers(graph: ModelProto, sums: Collection[str]) -> None:
    """Layers whose weight lost its module's name are called after the module that the exporter noted: it transposes
    those of linear layers on sequences, and stores those of `sums`, which are equal, once."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        noted = {item.key: item.value for item in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
        modules = ast.literal_eval(noted)[:-1]  # the last one is the function
        if node.op_type not in WEIGHTED or not modules or not modules[-1]:
            continue
        node.name = modules[-1]
        if node.name in sums and node.input[1] in stored and (own := f"{node.name}.weight") not in stored:
            tensor = graph.graph.initializer.add()
            tensor.CopyFrom(stored[node.input[1]])
            tensor.name = node.input[1] = own
    for node in graph.graph.node:
        if node.name in sums and node.name.endswith(TOTAL):
            _name_windows(graph, node)


def _name_windows(graph: ModelProto, total: NodeProto) -> None:
    """What makes windows of channels (`graph.sums`) is called after its layer, like the sum over the first of them."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    joined = next(node for node in graph.graph.node if total.output[0] in node.input)
    if joined.op_type != "Concat":  # a single window, of all channels
        return
    layer = total.name.removesuffix(TOTAL)
    parts = {"first": makers[total.input[0]], "windows": joined}
    parts["difference"] = gained = makers[joined.input[1]]
    parts |= {"high": makers[gained.input[0]], "low": makers[gained.input[1]]}
    for name, node in parts.items():
        if node.op_type in ("Slice", "Sub", "Concat"):
            node.name = f"{layer}_{name}"
