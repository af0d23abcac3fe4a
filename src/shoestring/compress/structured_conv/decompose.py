"""One layer as sums and a small layer behind them: exact where its weight is structured, else the nearest one that is.

Sums over pixels are a depthwise convolution of ones at stride 1, with the layer's padding and dilation; the small layer
has its stride. Sums over windows of channels are one sum and differences (`windows.differences`).
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shoestring.compress.structured_conv.shape import Layer, Shape, checked, shape_of
from shoestring.compress.structured_conv.windows import coordinates, projected
from shoestring.core.errors import BadInput
from shoestring.graph.sums import ChannelSum1d, ChannelSum2d, FeatureSum, SumPool1d, SumPool2d


@torch.no_grad()
def project(layer: nn.Module, c: int | None = None, n: int | None = None) -> Tensor:
    """The structured weight nearest to that of `layer`, in its shape and type; computed in float64. Raises BadInput as
    `shape_of`."""
    shape = shape_of(layer, c, n)
    weight = checked(layer).weight
    return projected(weight.double(), shape.projectors()).to(weight.dtype)


@torch.no_grad()
def decompose(layer: nn.Module, c: int | None = None, n: int | None = None) -> nn.Sequential:
    """Modules that compute together what `layer` does with its projected weight (arXiv 2008.02454, figure 4): windows
    of channels where `c` is given, sums over pixels where `n` is, and a small layer of the same kind. For any stride,
    padding, dilation and, as far as `n` goes, groups. Raises BadInput as `shape_of`, and where nothing would change."""
    shape, layer = shape_of(layer, c, n), checked(layer)
    if not shape.changes:
        raise BadInput(f"structured: c={c}, n={n} leave a weight of {list(layer.weight.shape)} as it is; give fewer")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if shape.c < shape.inputs:
        parts["channels"] = ChannelWindows(layer, shape)
    if shape.pools:
        assert not isinstance(layer, nn.Linear), "it has no pixels"
        if padding := uneven(layer):
            parts["pad"] = padding
        parts["pool"] = pool(layer, shape)
    parts["layer"] = small(layer, shape)
    return nn.Sequential(parts)


class ChannelWindows(nn.Module):
    """Channels, axis 1 (of linear layers the last), C to c of them: `windows.differences`."""

    def __init__(self, layer: Layer, shape: Shape):
        super().__init__()
        self.ends, self.axis = Ends.of(layer, shape), channel_axis(layer)
        self.total = total(layer, shape)

    def forward(self, x: Tensor) -> Tensor:
        first, low, high = (x[part] for part in (self.ends.first, self.ends.low, self.ends.high))
        return torch.cat([self.total(first), high - low], self.axis)


@dataclass(frozen=True)
class Ends:
    """Indices of channels: the `first` window, what each later one loses (`low`) and gains (`high`)."""

    first: Any
    low: Any
    high: Any

    @classmethod
    def of(cls, layer: Layer, shape: Shape) -> "Ends":
        wide, more = shape.inputs - shape.c + 1, shape.c - 1
        before: tuple[Any, ...] = (...,) if isinstance(layer, nn.Linear) else (slice(None),)
        return cls(*((*before, part) for part in (slice(0, wide), slice(0, more), slice(wide, None))))


def channel_axis(layer: Layer) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1


def total(layer: Layer, shape: Shape) -> nn.Module:
    """The sum over the first window of channels."""
    kind = {1: ChannelSum1d, 2: ChannelSum2d}[len(shape.taps)] if shape.taps else FeatureSum
    wide = shape.inputs - shape.c + 1
    return kind(wide, wide**-0.5, **_place(layer))


def _place(layer: Layer) -> dict[str, Any]:
    return {"dtype": layer.weight.dtype, "device": layer.weight.device}


def pool(layer: nn.Conv1d | nn.Conv2d, shape: Shape) -> nn.Module:
    """The sums over pixels in front of the small layer. They take the layer's padding: what is summed is padded."""
    kind = SumPool1d if isinstance(layer, nn.Conv1d) else SumPool2d
    padding = 0 if isinstance(layer.padding, str) else layer.padding
    channels = shape.c * layer.groups
    how = {"padding": padding, "dilation": layer.dilation, "padding_mode": layer.padding_mode, **_place(layer)}
    return kind(channels, shape.window, **how)


def uneven(layer: nn.Module) -> nn.Module | None:
    """Padding that is told by a word, as a module of its own: "same" pads more behind than before where it must."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d) or layer.padding != "same":
        return None
    if layer.padding_mode != "zeros":
        raise BadInput(f'structured: padding "same" in mode {layer.padding_mode!r}; write the padding as numbers')
    sides: Any = tuple(layer._reversed_padding_repeated_twice)
    return nn.ConstantPad1d(sides, 0.0) if isinstance(layer, nn.Conv1d) else nn.ConstantPad2d(sides, 0.0)


@torch.no_grad()
def small(layer: Layer, shape: Shape) -> Layer:
    """The layer behind the sums: [out, c, *n]."""
    found = copy.deepcopy(layer)
    weight = coordinates(layer.weight.double(), shape.boxes()).to(layer.weight.dtype)
    found.weight = nn.Parameter(weight.contiguous(), requires_grad=layer.weight.requires_grad)
    if isinstance(found, nn.Linear):
        found.in_features = shape.c
        return found
    found.in_channels = shape.c * found.groups
    found.kernel_size = shape.n
    if shape.pools:
        found.padding, found.padding_mode = (0,) * len(shape.n), "zeros"
        found._reversed_padding_repeated_twice = [0] * 2 * len(shape.n)
    return found
