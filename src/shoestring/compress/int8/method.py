"""Dense 8-bit post-training quantisation as a Method: which layers, at which range of weights.

The grids themselves are fitted on the exported graph (`deploy.calibrate`, `deploy.quantize`), so the torch model is
left as it is: this file says what is to be done to whom.
"""

import warnings
from collections.abc import Mapping
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
)


@dataclass(frozen=True)
class Int8:
    """`full`: use the whole s8 range everywhere. The default keeps pairs of neighbouring weights of dense layers small
    enough for processors that add products in 16 bits (x86-64 without VNNI), so that the file is exact everywhere;
    depthwise layers need no such care."""

    full: bool = False
    method: str = "int8"

    def __str__(self) -> str:
        return "int8:full" if self.full else "int8"


def parse(text: str) -> Int8:
    """`` or `full`."""
    if text not in ("", "full"):
        raise BadInput(f"int8: unknown setting {text!r}; write int8 or int8:full")
    return Int8(full=text == "full")


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    del device
    return (Int8(),) if layer.kind in CARD.kinds else ()


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """The layer stays what it is; its precision changes."""
    depthwise = isinstance(module, nn.Conv2d) and module.groups > 1 and module.weight.shape[1] == 1
    return module, precision(depthwise, setting)


def precision(depthwise: bool, setting: Setting) -> Precision:
    return INT8 if depthwise or getattr(setting, "full", False) else INT8_SAFE16


def counts(layer: Layer, setting: Setting) -> Counts:
    del setting
    return dense(layer, weight_bits=8, activation_bits=8)


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Applied:
    """Raises BadInput when a name is not a convolution or linear layer of `model`."""
    precisions = {}
    for name, setting in settings.items():
        try:
            module = model.get_submodule(name)
        except AttributeError:
            module = None
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.Conv1d):
            raise BadInput(f"int8: {name!r} is not a convolution or linear layer of the model")
        precisions[name] = lower(module, setting)[1]
    if not precisions:
        warnings.warn("int8 was applied to no layer", NoEffectWarning, stacklevel=2)
    return Applied(model, precisions)
