"""What LSQ and LSQ+ share as Methods; `plain` and `plus` are the two."""

import warnings
from collections.abc import Mapping

from torch import nn

from shoestring.compress.lsq.network import Quantised, quantised
from shoestring.compress.lsq.settings import Bits, Lsq
from shoestring.compress.lsq.weights import adds_pairs
from shoestring.compress.method import Setting
from shoestring.core.counts import Counts, dense
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.precision import Precision
from shoestring.graph.masks import by_path

KINDS = (CONV, DEPTHWISE, LINEAR)
_OPTIONS = (Bits(8, 8), Bits(6, 8), Bits(4, 8), Bits(4, 4), Bits(2, 4), Bits(2, 2))


def options(layer: Layer, default: Lsq) -> tuple[Setting, ...]:
    """A few bits of each kind; below 8 they save bytes, and milliseconds only in linear layers of batch 1."""
    if layer.kind not in KINDS:
        return ()
    return tuple(Lsq(default.method, bits, default.config, default.start) for bits in _OPTIONS)


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """The layer stays what it is; its precision changes."""
    return module, precision(module, own(setting))


def counts(layer: Layer, setting: Setting) -> Counts:
    bits = own(setting).bits
    return dense(layer, weight_bits=bits.weights, activation_bits=bits.activations)


def precision(module: nn.Module, setting: Lsq) -> Precision:
    bits = setting.bits
    return Precision(bits.weights, bits.activations, safe16=adds_pairs(module, bits.weights))


def apply(model: nn.Module, settings: Mapping[str, Setting], name: str) -> Quantised:
    """`name`: the method's, for what is said to the user. Layers have the inventory's names (`conv:2` is the second
    call of `conv`, and has the setting of the first). `model`, which is captured, stays as it is. Raises BadInput when
    a layer is not a convolution or linear layer of it."""
    captured, given = by_path(model, settings, name)
    chosen = {path: own(setting) for path, setting in given.items()}
    modules = dict(captured.named_modules())
    precisions = {}
    for layer in settings:
        path = layer.partition(":")[0]
        precisions[layer] = precision(modules[path], chosen[path])
    if not chosen:
        warnings.warn(f"{name} was applied to no layer", NoEffectWarning, stacklevel=2)
    applied = quantised(captured, chosen)
    applied.precisions = precisions
    return applied


def own(setting: Setting) -> Lsq:
    if not isinstance(setting, Lsq):
        raise BadInput(f"lsq: {setting} is not a setting of lsq or lsq+")
    return setting
