"""Post-training quantisation as a Method: which layers, at which range of weights; 8 bits, or fewer for weights.

The grids themselves are fitted on the exported graph (`deploy.calibrate`, `deploy.quantize`), so the torch model is
left as it is: this file says what is to be done to whom.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from shoestring.compress.method import Applied, Card, Setting
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


@dataclass(frozen=True)
class Int8:
    """`full`: use the whole s8 range everywhere. The default keeps pairs of neighbouring weights of dense layers small
    enough for processors that add products in 16 bits (x86-64 without VNNI), so that the file is exact everywhere;
    depthwise layers need no such care. `ranges`: the rule that reads activation ranges off the calibration inputs;
    None tries the quick ones and keeps the best. `bits`: of weights, 3 to 8, which are computed with in 8; activations
    have 8."""

    full: bool = False
    ranges: str | None = None
    bits: int = 8
    method: str = "int8"

    def __str__(self) -> str:
        words = [*([f"w{self.bits}"] if self.bits < 8 else []), *(["full"] if self.full else []), self.ranges or ""]
        words = [word for word in words if word]
        return ":".join(["int8", *words])


def parse(text: str) -> Int8:
    """Words separated by `:`, each kind at most once: `full`, one of RANGES, and one of w3 to w8; nothing for the
    default."""
    words = text.split(":") if text else []
    rules, widths = ([word for word in words if word in known] for known in (RANGES, BITS))
    if max(len(rules), len(widths), words.count("full")) > 1 or not {*words} <= {*RANGES, *BITS, "full"}:
        raise BadInput(
            f"int8: unknown setting {text!r}; write int8, int8:w4, int8:full, int8:{'|'.join(RANGES)} or int8:w4:mse"
        )
    return Int8("full" in words, rules[0] if rules else None, BITS[widths[0]] if widths else 8)


def assign(layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
    """The same for every layer; 8 bits for the first and the last."""
    given = own(setting)
    ends = {layers[0].name, layers[-1].name} if layers else set()
    return {layer.name: replace(given, bits=8) if layer.name in ends else given for layer in layers}


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
    """Layer to what the exporter must realise, of those of `layers` that the method applies to; by the default setting
    unless another is given."""
    found = [layer for layer in layers if layer.kind in CARD.kinds]
    chosen = assign(found, parse("") if setting is None else setting)
    return {layer.name: precision(layer.kind == DEPTHWISE, chosen[layer.name]) for layer in found}


def rule(setting: Setting) -> str | None:
    """The rule for the ranges of activations that was asked for."""
    return own(setting).ranges


def counts(layer: Layer, setting: Setting) -> Counts:
    return dense(layer, weight_bits=own(setting).bits, activation_bits=8)


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
        precisions[name] = lower(module, setting)[1]
    if not precisions:
        warnings.warn("int8 was applied to no layer", NoEffectWarning, stacklevel=2)
    return Applied(model, precisions)
