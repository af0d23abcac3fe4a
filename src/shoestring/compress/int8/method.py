"""Dense 8-bit post-training quantisation as a Method: which layers, at which range of weights.

The grids themselves are fitted on the exported graph (`deploy.calibrate`, `deploy.quantize`), so the torch model is
left as it is: this file says what is to be done to whom.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from shoestring.compress.method import Applied, Card, Setting
from shoestring.core.counts import Counts, dense
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.precision import INT8, INT8_SAFE16, Precision

CARD = Card(
    name="int8",
    title="dense 8-bit quantisation after training",
    paper="Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, "
    "arXiv 1712.05877",
    kinds=(CONV, DEPTHWISE, LINEAR),
    after=("magnitude",),
)
RANGES = ("min-max", "percentile", "mse", "entropy")


@dataclass(frozen=True)
class Int8:
    """`full`: use the whole s8 range everywhere. The default keeps pairs of neighbouring weights of dense layers small
    enough for processors that add products in 16 bits (x86-64 without VNNI), so that the file is exact everywhere;
    depthwise layers need no such care. `ranges`: the rule that reads activation ranges off the calibration inputs;
    None tries the quick ones and keeps the best."""

    full: bool = False
    ranges: str | None = None
    method: str = "int8"

    def __str__(self) -> str:
        words = [*(["full"] if self.full else []), *([self.ranges] if self.ranges else [])]
        return ":".join(["int8", *words])


def parse(text: str) -> Int8:
    """Words separated by `:`, each at most once: `full` and one of RANGES; nothing for the default."""
    words = text.split(":") if text else []
    rules = [word for word in words if word in RANGES]
    if len(rules) > 1 or words.count("full") > 1 or len(rules) + words.count("full") != len(words):
        raise BadInput(
            f"int8: unknown setting {text!r}; write int8, int8:full, int8:{'|'.join(RANGES)} or int8:full:mse"
        )
    return Int8("full" in words, rules[0] if rules else None)


def assign(layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
    """The same for every layer."""
    return {layer.name: setting for layer in layers}


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    del device
    return (Int8(),) if layer.kind in CARD.kinds else ()


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """The layer stays what it is; its precision changes."""
    depthwise = isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups > 1 and module.weight.shape[1] == 1
    return module, precision(depthwise, setting)


def precision(depthwise: bool, setting: Setting) -> Precision:
    """What the exporter must realise for a layer."""
    full = isinstance(setting, Int8) and setting.full
    return INT8 if depthwise or full else INT8_SAFE16


def precisions(layers: Iterable[Layer], setting: Setting | None = None) -> dict[str, Precision]:
    """Layer to what the exporter must realise, of those of `layers` that the method applies to; by the default setting
    unless another is given."""
    chosen = parse("") if setting is None else setting
    return {layer.name: precision(layer.kind == DEPTHWISE, chosen) for layer in layers if layer.kind in CARD.kinds}


def rule(setting: Setting) -> str | None:
    """The rule for the ranges of activations that was asked for."""
    return setting.ranges if isinstance(setting, Int8) else None


def counts(layer: Layer, setting: Setting) -> Counts:
    del setting
    return dense(layer, weight_bits=8, activation_bits=8)


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
