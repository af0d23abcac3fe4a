"""Layers of a float graph that has no torch model, decomposed: each becomes a module, and what the method makes of that
is exported and put in the place of the node."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from shoestring.compress import structured_conv
from shoestring.compress.method import Setting
from shoestring.compress.structured_conv.loss import residual
from shoestring.compress.structured_conv.method import own, shaped
from shoestring.compress.structured_conv.settings import DENSE
from shoestring.compress.structured_conv.shape import Layer, checked
from shoestring.core.errors import NoEffectWarning
from shoestring.deploy import inventory as onnx_inventory
from shoestring.deploy.export import export
from shoestring.deploy.grids import Stored, stored
from shoestring.deploy.rewrite import infer, shapes
from shoestring.deploy.splice import LAYER, splice
from shoestring.graph.capture import capture
from shoestring.pipeline.original import Original

_GEMM = {"transA": 0, "alpha": 1.0, "beta": 1.0}  # of one that is a linear layer


def decomposed(original: Original, settings: Mapping[str, Setting]) -> tuple[Original, dict[str, float]]:
    """The network with the layers that `settings` change decomposed as in a torch model, by the same code and with the
    same names, and the residual of the weight of each. Layers with a `hindrance` stay. Warns NoEffectWarning when none
    changes."""
    graph, residuals = ModelProto(), dict[str, float]()
    graph.CopyFrom(original.graph)
    layers, known, hindered = stored(graph), shapes(graph), hindrances(original)
    for name, setting in settings.items():
        if own(setting).kept == DENSE or name in hindered:
            continue
        given = known[layers[name].reads]
        module = module_of(layers[name], given)
        layer = checked(module[-1])
        if (shape := shaped(layer, own(setting).kept)).changes:
            residuals[name] = float(residual(layer.weight.detach(), shape))
            baked = structured_conv.apply(capture(module, given[1:]), {LAYER: setting}).bake()
            splice(graph, name, export(baked, given[1:]))
    if not residuals:
        warnings.warn("structured changed no layer", NoEffectWarning, stacklevel=2)
        return original, {}
    graph = infer(graph)
    return replace(original, graph=graph, layers=onnx_inventory.inventory(graph)), residuals


def hindrances(original: Original) -> dict[str, str]:
    """Layer of the method's kinds to why it cannot be made a module."""
    layers, known = stored(original.graph), shapes(original.graph)
    found = {}
    for layer in original.of_kinds(structured_conv.CARD.kinds):
        if layer.name not in layers:
            found[layer.name] = "other layers read their weights too, or these are no constants"
        elif reason := _hindrance(layers[layer.name], layer.bias, known.get(layers[layer.name].reads, ())):
            found[layer.name] = reason
    return found


def _hindrance(layer: Stored, bias: bool, given: tuple[int, ...]) -> str:
    """Why a layer cannot be made a module, empty where it can. `bias`: its node reads one."""
    if layer.weight.dtype != np.float32:
        return f"their weights are {layer.weight.dtype}"
    if bias and (layer.bias is None or len(layer.bias) != len(layer.weight)):
        return "their bias is not one constant for each output"
    if layer.op == "Conv" and layer.weight.ndim not in (3, 4):
        return f"their kernels have {layer.weight.ndim - 2} axes"
    if layer.op == "Gemm" and any(layer.attributes.get(name, plain) != plain for name, plain in _GEMM.items()):
        return "they scale or transpose what they read"
    return "" if len(given) > 1 and min(given) > 0 else "the shape of what they read is not known"


def module_of(layer: Stored, given: tuple[int, ...]) -> nn.Sequential:
    """A float layer without a `hindrance`, called LAYER, behind its padding where that is uneven. `given`: the shape of
    what it reads, batch first."""
    if layer.op == "Conv":
        made, padding = _convolution(layer, given)
    else:
        outputs, inputs = layer.weight.shape
        made, padding = nn.Linear(inputs, outputs, bias=layer.bias is not None), None
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(layer.weight.copy()))
        if made.bias is not None and layer.bias is not None:
            made.bias.copy_(torch.from_numpy(layer.bias))
    parts: list[tuple[str, nn.Module]] = [(LAYER, made)] if padding is None else [("pad", padding), (LAYER, made)]
    return nn.Sequential(OrderedDict(parts))


def _convolution(layer: Stored, given: tuple[int, ...]) -> tuple[Layer, nn.Module | None]:
    taps = layer.weight.shape[2:]
    groups = int(layer.attributes.get("group", 1))
    begins, ends = pads(layer, given)
    how: dict[str, Any] = {
        "stride": tuple(layer.attributes.get("strides", [1] * len(taps))),
        "dilation": tuple(layer.attributes.get("dilations", [1] * len(taps))),
        "padding": begins if begins == ends else 0,
        "groups": groups,
        "bias": layer.bias is not None,
    }
    sizes: Any = (layer.weight.shape[1] * groups, layer.weight.shape[0], taps)
    made: Layer = nn.Conv1d(*sizes, **how) if len(taps) == 1 else nn.Conv2d(*sizes, **how)
    if begins == ends:
        return made, None
    # Of the last axis first.
    sides: Any = [side for pair in reversed(list(zip(begins, ends, strict=True))) for side in pair]
    return made, nn.ConstantPad1d(sides, 0.0) if len(taps) == 1 else nn.ConstantPad2d(sides, 0.0)


def pads(layer: Stored, given: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a convolution that reads `given`: before and behind, an axis each; `auto_pad` as numbers."""
    attributes, taps = layer.attributes, layer.weight.shape[2:]
    word = attributes.get("auto_pad", b"NOTSET")
    if not word.startswith(b"SAME"):
        told = [0] * 2 * len(taps) if word == b"VALID" else list(attributes.get("pads", [0] * 2 * len(taps)))
        return tuple(told[: len(taps)]), tuple(told[len(taps) :])
    strides, dilations = (attributes.get(name, [1] * len(taps)) for name in ("strides", "dilations"))
    both = [
        max((-(-size // stride) - 1) * stride + (tap - 1) * dilation + 1 - size, 0)
        for size, tap, stride, dilation in zip(given[2:], taps, strides, dilations, strict=True)
    ]
    less, more = tuple(total // 2 for total in both), tuple(total - total // 2 for total in both)
    return (less, more) if word == b"SAME_UPPER" else (more, less)
