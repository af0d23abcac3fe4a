"""Structured convolutions as a Method: surgery on a captured network, before zeros and bits are decided."""

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from shoestring.compress.method import Applied, Card, Setting
from shoestring.compress.structured_conv.decompose import decompose
from shoestring.compress.structured_conv.settings import DENSE, Kept, Structured
from shoestring.compress.structured_conv.shape import Shape, checked, shape_of
from shoestring.compress.structured_conv.training import Structuring, structuring
from shoestring.core.counts import Counts, dense
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.precision import FLOAT, Precision
from shoestring.graph.masks import by_path

CARD = Card(
    name="structured",
    title="structured kernels: a sum over windows and a small layer in the place of a large one",
    paper="Bhalgat et al., Structured Convolutions for Efficient Neural Network Design, arXiv 2008.02454",
    kinds=(CONV, DEPTHWISE, LINEAR),
    after=("channels",),
    trains=True,
    reshapes=True,
    decomposes=True,
    legal="the subject of a pending patent application, US 2021/0374537 A1; ask before you ship what it made",
)
_OPTIONS = (Kept(n=2),)
_SHARES = (Kept(c=0.75), Kept(c=0.5))


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    """n = 2 for kernels larger than that; three quarters and half of the channels of 1x1 and linear layers."""
    del device
    if layer.kind not in CARD.kinds or layer.fixed:
        return ()
    largest = max(layer.weight[2:], default=1)
    if largest > 1:
        return tuple(Structured(kept) for kept in _OPTIONS if kept.n is not None and largest > kept.n)
    return tuple(Structured(kept) for kept in _SHARES) if layer.groups == 1 and layer.weight[1] > 1 else ()


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """The sums and the small layer behind them, of the layer's projected weight."""
    shape = shaped(module, own(setting).kept)
    return (decompose(module, shape.c, max(shape.n, default=None)) if shape.changes else copy.deepcopy(module)), FLOAT


def counts(layer: Layer, setting: Setting) -> Counts:
    """As the paper counts: multiplications and weights of the small layer, its additions and those of the sums.
    Sums are counted as they are made: over pixels one by one, over channels as one sum and differences. Those over
    pixels store nothing."""
    kept = own(setting).kept
    if kept == DENSE:
        return dense(layer)
    shape = Shape.of(layer.weight, kept.channels(layer.weight[1]), kept.n)
    weight = (layer.weight[0], shape.c, *shape.n)
    small = replace(layer, weight=weight, macs=layer.macs * math.prod(weight) // layer.weights)
    return dense(small) + Counts(adds={32: sums(layer, shape)})


def sums(layer: Layer, shape: Shape, naive: bool = False) -> int:
    """Additions in front of the small layer, for one input. `naive`: as the paper's formula counts, every sum by itself
    over its whole box, [(C - c + 1)(N - n + 1)^2 - 1] c each."""
    pixels = _pooled(layer, shape)
    wide, box = shape.inputs - shape.c + 1, math.prod(shape.window)
    if naive:
        return (wide * box - 1) * shape.c * layer.groups * math.prod(pixels)
    read = math.prod(layer.input[:-1] if layer.kind == LINEAR else layer.input[1:])
    channels = (wide - 1 + shape.c - 1) * read if shape.c < shape.inputs else 0
    return channels + (box - 1) * shape.c * layer.groups * math.prod(pixels)


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Applied:
    """The method at work on a copy of `model` (captured), whose `bake` decomposes. Layers have the inventory's names
    (`conv:2` is the second call of `conv`, and has the setting of the first). Warns NoEffectWarning when no layer is to
    change. Raises BadInput when a layer is not a convolution or linear layer of the model, or cannot have its
    setting."""
    captured, given = by_path(model, settings, CARD.name)
    shapes, strength = {}, 0.0
    for path, setting in given.items():
        shape = shaped(captured.get_submodule(path), own(setting).kept)
        if shape.changes:
            shapes[path], strength = shape, own(setting).strength
    found: Structuring = structuring(captured, shapes, strength)
    found.precisions = dict.fromkeys(settings, FLOAT)
    if not shapes:
        warnings.warn("structured changed no layer", NoEffectWarning, stacklevel=2)
    return found


def shaped(module: nn.Module, kept: Kept) -> Shape:
    """The structure that is left of a layer. Raises BadInput as `shape_of`."""
    return shape_of(module, kept.channels(checked(module).weight.shape[1]), kept.n)


def own(setting: Setting) -> Structured:
    if not isinstance(setting, Structured):
        raise BadInput(f"structured: {setting} is not a setting of structured")
    return setting


def _pooled(layer: Layer, shape: Shape) -> tuple[int, ...]:
    """The size of what the small layer reads, channels left out: between its input and its output, as it is padded."""
    if layer.kind == LINEAR:
        return layer.input[:-1]
    if not shape.pools:
        return layer.input[1:]
    # Behind the sums the small layer needs no padding: it reads (H' - 1) stride + n pixels of them.
    steps = zip(layer.output[1:], layer.stride, shape.n, strict=True)
    return tuple((size - 1) * stride + taps for size, stride, taps in steps)
