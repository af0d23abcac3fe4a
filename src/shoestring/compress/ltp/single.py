"""`ltp`: learned threshold pruning of single weights."""

from collections.abc import Mapping, Sequence

from torch import nn

from shoestring.compress.ltp.method import KINDS, PATENT, counts, feature, keep, lower, own
from shoestring.compress.ltp.method import apply as _apply
from shoestring.compress.ltp.network import Thresholded
from shoestring.compress.ltp.settings import SINGLE, Ltp
from shoestring.compress.ltp.settings import assign as _assign
from shoestring.compress.ltp.settings import parse as _parse
from shoestring.compress.method import Card, Setting
from shoestring.core.blocks import Blocks
from shoestring.core.device import Device
from shoestring.core.layer import Layer
from shoestring.core.pattern import BlockPattern

__all__ = ["CARD", "apply", "assign", "counts", "feature", "keep", "lower", "options", "parse", "priced"]

CARD = Card(
    name="ltp",
    title="single weights removed below thresholds that are learned, one a layer",
    paper="Azarian et al., Learned Threshold Pruning, arXiv 2003.00075",
    kinds=KINDS,
    after=("channels",),
    conflicts=("magnitude", "block_ltp"),
    trains=True,
    prunes=True,
    legal=PATENT,
)
DEFAULT = Ltp("ltp", Blocks(SINGLE, 80))


def parse(text: str) -> Ltp:
    return _parse(DEFAULT, text)


def assign(layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
    return dict(_assign(layers, own(setting)))


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    """Single zeros at a few shares; on paper only, where no runtime leaves them out."""
    del device
    shares = (50, 70, 80, 90)
    return tuple(Ltp("ltp", Blocks(SINGLE, share)) for share in shares) if layer.kind in KINDS else ()


def priced(settings: Mapping[str, Setting]) -> dict[str, BlockPattern]:
    """None: the penalty counts weights."""
    del settings
    return {}


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Thresholded:
    return _apply(model, settings, CARD.name)
