"""Post-training quantisation as a Method: which layers, at which range of weights; 8 bits, or fewer for weights.

The grids themselves are fitted on the exported graph (`deploy.calibrate`, `deploy.quantize`), so the torch model is
left as it is: this file says what is to be done to whom.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import nn

from shoestring.compress.method import Applied, Card, Setting
from shoestring.core.blocks import named as named_word
from shoestring.core.blocks import words as words_of
from shoestring.core.counts import Counts, dense
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.precision import Precision

CARD = Card(
    name="int8",
    title="dense 8-bit quantisation after training",
    paper="Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, "
    "arXiv 1712.05877",
    kinds=(CONV, DEPTHWISE, LINEAR),
    after=("magnitude",),
)
RANGES = ("min-max", "percentile", "mse", "entropy")
BITS = {f"w{bits}": bits for bits in range(3, 9)}
UNCHANGED = 32
NAMED = BITS | {"fp32": UNCHANGED}


@dataclass(frozen=True)
class Int8:
    """`full`: use the whole s8 range everywhere. The default keeps pairs of neighbouring weights of dense layers small
    enough for processors that add products in 16 bits (x86-64 without VNNI), so that the file is exact everywhere;
    depthwise layers need no such care. `ranges`: the rule that reads activation ranges off the calibration inputs;
    None tries the quick ones and keeps the best. `bits`: of weights, 3 to 8, which are computed with in 8; activations
    have 8; UNCHANGED for a layer that stays in fp32. `layers`: (pattern of names, bits) for the layers that match; the
    last match counts."""

    full: bool = False
    ranges: str | None = None
    bits: int = 8
    layers: tuple[tuple[str, int], ...] = ()
    method: str = "int8"

    def __str__(self) -> str:
        own = [_word(self.bits)] * (self.bits != 8)
        named = (f"{name}={_word(bits)}" for name, bits in self.layers)
        return ":".join(["int8", *own, *["full"] * self.full, *[self.ranges] * (self.ranges is not None), *named])  # type: ignore[list-item]


def parse(text: str) -> Int8:
    """Words separated by `:`, each kind at most once: `full`, one of RANGES, and one of w3 to w8; nothing for the
    default; and any number of `LAYER=w4` or `LAYER=fp32` (with * and ? as in file names). Raises BadInput."""
    given = words_of(text)
    named = [pair for pair in map(named_word, given) if pair]
    words = [word for word in given if not named_word(word)]
    rules, widths = ([word for word in words if word in known] for known in (RANGES, BITS))
    known = {*words} <= {*RANGES, *BITS, "full"} and {own for _, own in named} <= {*NAMED}
    if max(len(rules), len(widths), words.count("full")) > 1 or not known:
        raise BadInput(
            f"int8: unknown setting {text!r}; write int8, int8:w4, int8:full, int8:{'|'.join(RANGES)}, int8:w4:mse "
            "or int8:LAYER=w4|fp32"
        )
    layers = tuple((name, NAMED[own]) for name, own in named)
    return Int8("full" in words, rules[0] if rules else None, BITS[widths[0]] if widths else 8, layers)


def assign(layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
    """The same for every layer, 8 bits for the first and the last; its own where a pattern names it (all calls of a
    layer alike). Raises BadInput for a pattern that no layer's name matches."""
    given = own(setting)
    paths = [layer.name.partition(":")[0] for layer in layers]
    for pattern, _ in given.layers:
        if not any(fnmatchcase(path, pattern) for path in paths):
            names = ", ".join(layer.name for layer in layers[:3])
            raise BadInput(f"int8: no layer is called {pattern!r}; layers are {names}, ... (see explain)")
    ends = {*paths[:1], *paths[-1:]}
    found: dict[str, Setting] = {}
    for layer, path in zip(layers, paths, strict=True):
        named = [bits for pattern, bits in given.layers if fnmatchcase(path, pattern)]
        bits = named[-1] if named else 8 if path in ends else given.bits
        found[layer.name] = replace(given, bits=bits, layers=())
    return found


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    del device
    return (Int8(),) if layer.kind in CARD.kinds else ()


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """The layer stays what it is; its precision changes."""
    depthwise = isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups > 1 and module.weight.shape[1] == 1
    return module, precision(depthwise, setting)


def precision(depthwise: bool, setting: Setting) -> Precision:
    """What the exporter must realise for a layer."""
    given = own(setting)
    return Precision(given.bits, 8, safe16=not (depthwise or given.full))


def precisions(layers: Iterable[Layer], setting: Setting | None = None) -> dict[str, Precision]:
    """Layer to what the exporter must realise, of those of `layers` that the method applies to and that do not stay in
    fp32; by the default setting unless another is given."""
    found = [layer for layer in layers if layer.kind in CARD.kinds]
    chosen = assign(found, parse("") if setting is None else setting)
    left = [layer for layer in found if own(chosen[layer.name]).bits != UNCHANGED]
    return {layer.name: precision(layer.kind == DEPTHWISE, chosen[layer.name]) for layer in left}


def rule(setting: Setting) -> str | None:
    """The rule for the ranges of activations that was asked for."""
    return own(setting).ranges


def counts(layer: Layer, setting: Setting) -> Counts:
    bits = own(setting).bits
    return dense(layer, weight_bits=bits, activation_bits=UNCHANGED if bits == UNCHANGED else 8)


def _word(bits: int) -> str:
    return "fp32" if bits == UNCHANGED else f"w{bits}"


def own(setting: Setting) -> Int8:
    if not isinstance(setting, Int8):
        raise BadInput(f"int8: {setting} is not a setting of int8")
    return setting


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Applied:
    """Names are the inventory's (`conv:2` is the second call of `conv`). Raises BadInput when one is not a convolution
    or linear layer of `model`."""
    modules = dict(model.named_modules())
    precisions = {}
    for name, setting in settings.items():
        module = modules.get(name.partition(":")[0])
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.Conv1d):
            raise BadInput(f"int8: {name!r} is not a convolution or linear layer of the model")
        if own(setting).bits != UNCHANGED:
            precisions[name] = lower(module, setting)[1]
    if not precisions:
        warnings.warn("int8 was applied to no layer", NoEffectWarning, stacklevel=2)
    return Applied(model, precisions)
