"""`lsq+`: learned step sizes and offsets, started where the squared error is least."""

from collections.abc import Mapping, Sequence

from torch import nn

from shoestring.compress.lsq.method import KINDS, counts, lower, own
from shoestring.compress.lsq.method import apply as _apply
from shoestring.compress.lsq.method import options as _options
from shoestring.compress.lsq.network import Quantised
from shoestring.compress.lsq.settings import Lsq
from shoestring.compress.lsq.settings import assign as _assign
from shoestring.compress.lsq.settings import parse as _parse
from shoestring.compress.method import Card, Setting
from shoestring.core.device import Device
from shoestring.core.layer import Layer

__all__ = ["CARD", "apply", "assign", "counts", "lower", "options", "parse"]

CARD = Card(
    name="lsq+",
    title="low bits with learned steps and offsets",
    paper="Bhalgat et al., LSQ+: Improving low-bit quantization through learnable offsets and better initialization, "
    "arXiv 2004.09576",
    kinds=KINDS,
    conflicts=("int8", "lsq"),
    trains=True,
)
DEFAULT = Lsq("lsq+", config=4, start="mse")


def parse(text: str) -> Lsq:
    return _parse(DEFAULT, text)


def assign(layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
    return dict(_assign(layers, own(setting)))


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    del device
    return _options(layer, DEFAULT)


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Quantised:
    return _apply(model, settings, CARD.name)
