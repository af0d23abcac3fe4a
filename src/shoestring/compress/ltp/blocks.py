"""`block_ltp`: learned thresholds on the norms of blocks that the engine can leave out, priced in milliseconds."""

from collections.abc import Mapping, Sequence

from torch import nn

from shoestring.compress.ltp.method import PATENT, counts, feature, keep, lower, own
from shoestring.compress.ltp.method import apply as _apply
from shoestring.compress.ltp.network import Thresholded
from shoestring.compress.ltp.settings import Ltp
from shoestring.compress.ltp.settings import assign as _assign
from shoestring.compress.ltp.settings import parse as _parse
from shoestring.compress.method import Card, Setting
from shoestring.core.blocks import Blocks
from shoestring.core.device import Device
from shoestring.core.layer import CONV, LINEAR, Layer
from shoestring.core.pattern import BlockPattern

__all__ = ["CARD", "apply", "assign", "counts", "feature", "keep", "lower", "options", "parse", "priced"]

KINDS = (CONV, LINEAR)
CARD = Card(
    name="block_ltp",
    title="executable blocks of weights removed below learned thresholds, each block priced in measured milliseconds",
    paper="after Azarian et al., Learned Threshold Pruning, arXiv 2003.00075",
    kinds=KINDS,  # a group of a depthwise layer holds one output, and no block
    after=("channels",),
    conflicts=("magnitude", "ltp"),
    trains=True,
    prunes=True,
    legal=PATENT,
)
FOUR = BlockPattern(4, 1)
DEFAULT = Ltp("block_ltp", Blocks(FOUR, 80))


def parse(text: str) -> Ltp:
    return _parse(DEFAULT, text)


def assign(layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
    return dict(_assign(layers, own(setting)))


def options(layer: Layer, device: Device) -> tuple[Setting, ...]:
    """Blocks of 4x1 at a few shares, where the layer's groups hold them."""
    del device
    if layer.kind not in KINDS:
        return ()
    pattern = FOUR.within(layer.weight, layer.groups)
    return tuple(Ltp("block_ltp", Blocks(pattern, share)) for share in (50, 70, 80, 90))


def priced(settings: Mapping[str, Setting]) -> dict[str, BlockPattern]:
    """All layers that lose something."""
    chosen = {name: own(setting) for name, setting in settings.items()}
    return {name: setting.pattern for name, setting in chosen.items() if setting.blocks.percent}


def apply(model: nn.Module, settings: Mapping[str, Setting]) -> Thresholded:
    return _apply(model, settings, CARD.name)
