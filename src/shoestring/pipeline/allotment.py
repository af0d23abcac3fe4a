"""What share of its weights each layer loses when nothing is trained: by what it does to the outputs, as measured.

Each layer alone is pruned and made up for at a few shares, and the rest of the original runs with it. Losses of layers
add up as the squares of small changes do; the exact solver takes the shares with the least sum.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from onnx import ModelProto

from shoestring.compress.method import Setting
from shoestring.compress.reconstruct.layer import damping
from shoestring.compress.reconstruct.moments import Moments
from shoestring.compress.reconstruct.pruning import ways
from shoestring.compress.reconstruct.quadratic import Quadratic, refit
from shoestring.core.allot import levels_with, share_out
from shoestring.core.cost import Cost
from shoestring.core.pattern import BlockPattern
from shoestring.core.quality import relative_error
from shoestring.deploy.grids import Stored, stored
from shoestring.deploy.walk import Walk
from shoestring.deploy.weights import with_weights
from shoestring.pipeline.original import Original
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.reconstruct import batches, by_group, plain, taps_of

MEASURED = (15, 30, 50, 65, 80, 95)  # per cent; between them a loss is read off straight lines of its logarithm
JUDGED = 32  # inputs with which the rest of the network runs


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
    outputs when they go from it alone and the others of the layer make up for them."""
    layers = stored(original)
    names = [name for name in layers if name in patterns and plain(layers[name])]
    walk, few = Walk(original, inputs), Walk(original, inputs[:JUDGED])
    output = original.graph.output[0].name
    expected = np.concatenate([value for (value,) in few.read([output])])
    found = {}
    for index, name in enumerate(names):
        report("allotting zeros", index / len(names))
        layer = layers[name]
        for place in (walk, few):
            place.go(name)
        measured = {}
        for level, (weight, bias) in _pruned(walk, layer, patterns[name]).items():
            few.model = with_weights(original, {name: weight}, {} if layer.op == "MatMul" else {name: bias})
            outputs = np.concatenate([value for (value,) in few.read([output])])
            measured[level] = float(np.square(relative_error(outputs, expected)).mean())
        few.model = original
        found[name] = _between(measured, levels_with(percent))
    report("allotting zeros", 1.0)
    return found


def _pruned(walk: Walk, layer: Stored, pattern: BlockPattern) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """The layer's weight and bias with each of MEASURED gone, float32."""
    weight = by_group(layer.weight, layer)
    quadratic = Quadratic.of(Moments.of(batches(walk, layer, walk, layer)), layer.op != "MatMul")
    hessian, target = quadratic.damped(weight, damping(walk.inputs))
    way = ways(hessian, target, taps_of(layer), pattern)
    found: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    for level in MEASURED:
        left = refit(hessian, target, way.keep(int(level * weight.numel() / 100)))
        values = left.reshape(layer.weight.shape), quadratic.bias(left).flatten()
        found[level] = values[0].numpy().astype(np.float32), values[1].numpy().astype(np.float32)
    return found


def _between(measured: Mapping[float, float], levels: Sequence[float]) -> dict[float, float]:
    """Losses at `levels`; below the least that was measured they fall to 0 as squares do."""
    shares = list(measured)
    logs = np.log(np.maximum.accumulate([max(loss, 1e-12) for loss in measured.values()]))
    return {level: float(np.exp(np.interp(level, shares, logs)) * min(1.0, level / shares[0]) ** 2) for level in levels}
