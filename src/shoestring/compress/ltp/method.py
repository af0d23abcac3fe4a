"""What LTP and block LTP share as Methods; `single` and `blocks` are the two."""

import copy
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from shoestring.compress.ltp.network import Thresholded, thresholded
from shoestring.compress.ltp.settings import SINGLE, Ltp
from shoestring.compress.method import Setting, Weight
from shoestring.core.cost import Cost
from shoestring.core.counts import Counts, sparse
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer
from shoestring.core.precision import FLOAT, Precision
from shoestring.graph.masks import by_path, groups_of

KINDS = (CONV, DEPTHWISE, LINEAR)
PATENT = (
    "learned threshold pruning is the subject of a granted patent (US 11,704,571 B2, 18 July 2023). Take advice "
    "before you ship what it made; `magnitude` prunes without it"
)


def lower(module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
    """A copy with the layer's own smallest blocks at zero, whatever the others are like."""
    lowered, chosen = copy.deepcopy(module), own(setting)
    assert isinstance(lowered, nn.Conv1d | nn.Conv2d | nn.Linear), "a layer of the card's kinds"
    weight, pattern = lowered.weight.detach(), chosen.pattern
    norms = pattern.norms(weight.numpy(), groups_of(lowered))
    gone = norms < np.quantile(norms, chosen.blocks.percent / 100)
    with torch.no_grad():
        lowered.weight.masked_fill_(torch.from_numpy(pattern.expand(gone, tuple(weight.shape), groups_of(lowered))), 0)
    return lowered, FLOAT


def counts(layer: Layer, setting: Setting) -> Counts:
    """As if every layer lost the share that was asked of all; a mask bit for each block."""
    chosen = own(setting)
    if not chosen.blocks.percent:
        return sparse(layer, layer.weights, 0)
    blocks = chosen.pattern.sizes(layer.weight, layer.groups).size
    return sparse(layer, layer.weights - int(chosen.blocks.percent * layer.weights / 100), blocks)


def keep(
    weights: Mapping[str, Weight], settings: Mapping[str, Setting], costs: Mapping[str, Cost] | None = None
) -> dict[str, np.ndarray]:
    """Raises BadInput: thresholds are learned."""
    name = next(iter(settings.values())).method
    raise BadInput(f"{name}: thresholds are learned, for which it needs a torch model; write --method magnitude")


def feature(setting: Setting) -> str:
    """The entry of the capability contract that says what a runtime does with the zeros."""
    return "unstructured zeros" if own(setting).pattern == SINGLE else "block zeros"


def apply(model: nn.Module, settings: Mapping[str, Setting], name: str) -> Thresholded:
    """`name`: the method's. Layers have the inventory's names (`conv:2` is the second call of `conv`, and has its
    weight). `model`, which is captured, stays as it is. Raises BadInput when a layer is not a convolution or linear
    layer of it."""
    captured, given = by_path(model, settings, name)
    chosen = {path: own(setting) for path, setting in given.items() if own(setting).blocks.percent}
    if not chosen:
        warnings.warn(f"{name} removed no weight", NoEffectWarning, stacklevel=2)
    applied = thresholded(captured, chosen, folded=name != "ltp")
    applied.precisions = dict.fromkeys(settings, FLOAT)
    return applied


def own(setting: Setting) -> Ltp:
    if not isinstance(setting, Ltp):
        raise BadInput(f"ltp: {setting} is not a setting of ltp or block_ltp")
    return setting
