"""What zeros cost here: the 8-bit network with a share of its blocks at zero, timed layer by layer like any option."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto

from shoestring.compress import magnitude
from shoestring.core.blocks import Blocks, by_layer
from shoestring.core.layer import Layer
from shoestring.core.precision import Precision
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.pruning import prune

PATTERN = "4x1"
LEVELS = (50, 80, 90)  # per cent of the blocks
OTHERS = ("1x1", "4x4")  # patterns that are timed at one level, for comparison
OTHER_LEVEL = 80
DENSE = "int8"


def option(percent: int, pattern: str = PATTERN) -> str:
    """What a latency table calls it, and the command line too."""
    return f"magnitude:{pattern}@{percent}%:uniform"


def variants(
    original: Original,
    inputs: Sequence[np.ndarray],
    precisions: Mapping[str, Precision],
    levels: Sequence[int] = LEVELS,
    pattern: str = PATTERN,
) -> dict[str, ModelProto]:
    """Option to the network in 8 bits whose layers have so many blocks at zero, those that `magnitude` leaves dense
    excepted; where blocks do not fit, the nearest that do. The smallest go, in one shot: good for speed, and for
    nothing else."""
    found = {}
    layers = [layer for layer in original.of_kinds(magnitude.CARD.kinds) if not layer.fixed]
    for percent in levels:
        name = option(percent, pattern)
        chosen = blocks(layers, magnitude.parse(name.removeprefix("magnitude:")).blocks)
        settings = {layer: magnitude.Magnitude(own, magnitude.UNIFORM) for layer, own in chosen.items()}
        found[name] = calibrate(prune(original, magnitude, settings).original.graph, inputs, precisions).build()
    return found


def blocks(layers: Sequence[Layer], asked: Blocks) -> dict[str, Blocks]:
    """What each layer loses: nothing where `magnitude` takes nothing unless a layer is named, else what was asked, or
    the nearest that fits."""
    chosen = by_layer(layers, asked, (), magnitude.CARD.name, nearest=True)
    return {name: own for name, (own, _) in chosen.items()}
