"""What share of its weights each layer loses when nothing is trained: by what it does to the outputs, as measured.

Each layer alone is pruned and made up for at a few shares, and the rest of the original runs with it. Losses of layers
add up as the squares of small changes do; the exact solver takes the shares with the least sum.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType

import numpy as np
from onnx import ModelProto

from shoestring.compress.method import Setting
from shoestring.core.allot import levels_with, share_out
from shoestring.core.cost import Cost
from shoestring.core.pattern import BlockPattern
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import EightBit
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.sensitivity import JUDGED, Trial, between, sensitivities


def allotted(
    original: Original,
    method: ModuleType,
    settings: Mapping[str, Setting],
    costs: Mapping[str, Cost],
    inputs: Sequence[np.ndarray],
    report: Progress,
) -> dict[str, Setting]:
    """`settings` (of a method that prunes) in which layers that share zeros or milliseconds have shares of their own.
    `costs`: in milliseconds, of the layers that share those; the others share the number of their zeros."""
    together: dict[Setting, dict[str, BlockPattern]] = {}
    for name, setting in settings.items():
        blocks = method.shared(setting)
        if blocks is not None:
            together.setdefault(setting, {})[name] = blocks.pattern
    sizes = {layer.name: layer.weights for layer in original.layers}
    found = dict(settings)
    for setting, patterns in together.items():
        percent = method.shared(setting).percent
        measured = losses(original.graph, patterns, inputs, percent, report)
        own = {name: costs.get(name, Cost((0.0, 1.0), (float(sizes[name]), 0.0))) for name in measured}
        shares = share_out(measured, percent, own)
        found |= {name: method.alone(setting, shares.get(name, percent)) for name in patterns}
    return found


def losses(
    original: ModelProto,
    patterns: Mapping[str, BlockPattern],
    inputs: Sequence[np.ndarray],
    percent: float,
    report: Progress,
) -> dict[str, dict[float, float]]:
    """Of each layer of `patterns`: per cent of its weights that go to the squared relative error of the network's
    outputs when they go from it alone and the others of the layer make up for them. A quarter of `inputs` judges."""
    held = inputs[: max(1, len(inputs) // 4)]
    network = EightBit(original, {}, {}, held)
    trials = {name: Trial(pattern) for name, pattern in patterns.items()}
    rest, share = inputs[len(held) :] or inputs, partial(report, "allotting zeros")
    found = sensitivities(network, trials, rest, held[:JUDGED], share)
    levels = levels_with(percent)
    return {name: {level: between(own.zeros, level).value for level in levels} for name, own in found.items()}
