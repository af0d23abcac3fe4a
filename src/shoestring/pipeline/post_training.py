"""Post-training 8-bit files: ranges from calibration inputs, three rules tried, the closest to the original kept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.compress.method import Setting
from shoestring.core.layer import DEPTHWISE
from shoestring.core.precision import Precision
from shoestring.core.quality import distance
from shoestring.deploy import runtimes
from shoestring.deploy.calibrate import QUICK, RULES, Histogram, histograms
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
        return quantise(self.graph, ranges, precisions)


def eight_bit(
    original: Original, samples: Samples, method: ModuleType = int8, settings: Mapping[str, Setting] | None = None
) -> EightBit:
    """The original, calibrated: by the settings of `int8`, by its defaults beside any other method."""
    if method is not int8 or settings is None:
        settings = int8.assign(original.of_kinds(int8.CARD.kinds), int8.parse(""))
    kinds = {layer.name: layer.kind for layer in original.layers}
    precisions = {name: int8.precision(kinds[name] == DEPTHWISE, setting) for name, setting in settings.items()}
    network = calibrate(original.graph, samples.calibration, precisions)
    rule = int8.rule(next(iter(settings.values()))) if settings else None
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


def loss(model: ModelProto, original: np.ndarray, inputs: Sequence[np.ndarray], runtime: str = "onnxruntime") -> float:
    """Points of divergence of `model` from the original's outputs."""
    return 100 * float(distance(outputs(model, runtime, inputs), original)[1].mean())


def outputs(model: ModelProto, runtime: str, inputs: Sequence[np.ndarray], threads: int = 1) -> np.ndarray:
    """[n, ...] outputs of a graph for inputs [1, ...]."""
    session = runtimes.get(runtime).open(model.SerializeToString(), threads=threads)
    return np.concatenate([session(x)[0] for x in inputs])
