"""Post-training 8-bit files: ranges from calibration inputs, three rules tried, the closest to the original kept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.compress.method import Setting
from shoestring.compress.reconstruct import rounding
from shoestring.core.grid import Grid
from shoestring.core.precision import Precision
from shoestring.core.quality import distance
from shoestring.deploy import runtimes
from shoestring.deploy.calibrate import QUICK, RULES, Histogram, histograms
from shoestring.deploy.grids import put, stored
from shoestring.deploy.quantize import activations, quantise
from shoestring.pipeline.original import Original
from shoestring.pipeline.samples import Samples


@dataclass(frozen=True)
class EightBit:
    """A network that can be built with any of its layers in 8 bits. `precisions`: layer to what it may become;
    `rule`: how ranges are read off the histograms; `tried`: rule to its loss in points on `held_out`, the calibration
    inputs that made no histogram."""

    graph: ModelProto
    precisions: Mapping[str, Precision]
    histograms: Mapping[str, Histogram]
    held_out: Sequence[np.ndarray]
    rule: str = "min-max"
    tried: Mapping[str, float] = field(default_factory=dict)

    def build(self, layers: Collection[str] | None = None) -> ModelProto:
        """The network with `layers` (all that can, unless given) in 8 bits and the others in fp32."""
        precisions = {name: p for name, p in self.precisions.items() if layers is None or name in layers}
        ranges = {name: RULES[self.rule](self.histograms[name]) for name in activations(self.graph, precisions)}
        graph = quantise(self.graph, ranges, {name: replace(p, weights=8) for name, p in precisions.items()})
        for name, layer in stored(self.graph).items():
            if name in precisions and precisions[name].weights < 8:
                bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
                put(graph, name, nearest_grid(layer.weight, precisions[name].weights), bias)
        return graph

    @property
    def bits(self) -> dict[str, int]:
        """Layer to the bits of its weight, of those that can be told by themselves (`deploy.grids.stored`)."""
        alone = stored(self.graph)
        return {name: precision.weights for name, precision in self.precisions.items() if name in alone}


def eight_bit(original: Original, samples: Samples, setting: Setting | None = None) -> EightBit:
    """The original, calibrated by a setting of `int8`; by the defaults without."""
    layers = original.of_kinds(int8.CARD.kinds)
    network = calibrate(original.graph, samples.calibration, int8.precisions(layers))
    network = replace(network, precisions=int8.precisions(layers, setting))
    rule = None if setting is None else int8.rule(setting)
    return replace(network, rule=rule) if rule else with_best_rule(network)


def calibrate(graph: ModelProto, inputs: Sequence[np.ndarray], precisions: Mapping[str, Precision]) -> EightBit:
    """Histograms from three quarters of `inputs`; the rest (at least one) is held out. Ranges by min-max."""
    held = max(1, len(inputs) // 4)
    fitted = inputs[held:] if len(inputs) > held else inputs
    seen = histograms(graph, activations(graph, precisions), lambda: fitted)
    return EightBit(graph, precisions, seen, inputs[:held])


def with_best_rule(network: EightBit) -> EightBit:
    """The rule whose file moves the least probability on the held-out inputs."""
    original = outputs(network.graph, "onnxruntime", network.held_out)
    tried = {rule: loss(replace(network, rule=rule).build(), original, network.held_out) for rule in QUICK}
    return replace(network, rule=min(tried, key=tried.__getitem__), tried=tried)


def nearest_grid(weight: np.ndarray, bits: int) -> Grid:
    """`weight` [out, in, ...] at the nearest codes, for each output with the step that has the least squared error."""
    rows = torch.from_numpy(weight.astype(np.float64).reshape(1, len(weight), -1))
    codes, same = rounding.Codes(bits), torch.eye(rows.shape[2], dtype=torch.float64)[None]
    steps = rounding.least_steps(same, rows, rows, torch.ones_like(rows, dtype=torch.bool), codes)
    found = rounding.nearest(rows, steps, codes).to(torch.int8)
    return Grid(found.numpy().reshape(weight.shape), steps[0].float().numpy(), bits)


def loss(model: ModelProto, original: np.ndarray, inputs: Sequence[np.ndarray], runtime: str = "onnxruntime") -> float:
    """Points of divergence of `model` from the original's outputs."""
    return 100 * float(distance(outputs(model, runtime, inputs), original)[1].mean())


def outputs(model: ModelProto, runtime: str, inputs: Sequence[np.ndarray], threads: int = 1) -> np.ndarray:
    """[n, ...] outputs of a graph for inputs [1, ...]."""
    session = runtimes.get(runtime).open(model.SerializeToString(), threads=threads)
    return np.concatenate([session(x)[0] for x in inputs])
