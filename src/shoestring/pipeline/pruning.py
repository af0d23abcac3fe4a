"""What pruning leaves: in one shot, zeros in the exported graph before it is quantised; and what they save on paper."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np
from onnx import ModelProto
from torch import Tensor

from shoestring.compress import METHODS, int8
from shoestring.compress.method import Setting, Weight
from shoestring.core.cost import Cost
from shoestring.core.layer import Layer
from shoestring.core.pattern import Pattern
from shoestring.core.trail import Trail
from shoestring.deploy.weights import weights, with_weights
from shoestring.pipeline.original import Original


@dataclass(frozen=True)
class Pruned:
    """`original`: the network without what was taken away. `settings`: of the layers that lost something, by method
    and layer. `features`: entries of the capability contract that say what a runtime does with zeros. `masks`: module
    path to what stays of its weight, for methods to come. `epochs`: of training so far. `trail`: the sparsities that
    it passed through. `source`: the file that brought the zeros, when one did. `dense`: the float network
    before weights were changed without training, which a reconstruction follows; None when it was trained.
    `patterns`: in which zeros may be chosen anew then. `told`: what the methods say of how it went, in sentences.
    `recovered`: training began with what reconstruction had made of the zeros."""

    original: Original
    settings: Mapping[str, Setting] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    reshaped: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    epochs: float = 0.0
    trail: Trail | None = None
    source: str = ""
    patterns: Mapping[str, Pattern] = field(default_factory=dict)
    dense: ModelProto | None = None
    told: tuple[str, ...] = ()
    recovered: bool = False


def prune(
    original: Original,
    method: ModuleType,
    settings: Mapping[str, Setting],
    costs: Mapping[str, Cost] | None = None,
) -> Pruned:
    """Applies a method that prunes to the float graph in one shot, by layer. `costs`: of the layers that it wants
    priced. Warns NoEffectWarning when nothing goes."""
    groups = {layer.name: layer.groups for layer in original.layers}
    found = {name: Weight(value, groups.get(name, 1)) for name, value in weights(original.graph).items()}
    kept = method.keep(found, settings, costs)
    graph = with_weights(original.graph, {name: np.where(mask, found[name].values, 0) for name, mask in kept.items()})
    own = {name: settings[name] for name in kept}
    patterns = {name: method.pattern(setting) for name, setting in own.items()}
    made = replace(original, graph=graph)
    return Pruned(made, own, features(method, own), patterns=patterns, dense=original.graph)


def features(method: ModuleType, settings: Mapping[str, Setting]) -> tuple[str, ...]:
    """The entries of the capability contract that speak of the zeros of `settings`."""
    return tuple(dict.fromkeys(method.feature(setting) for setting in settings.values()))


def zeros(model: ModelProto, layers: Collection[str]) -> dict[str, float]:
    """The share of zeros in the weight of each of `layers`, codes that quantisation made zero included."""
    found = weights(model)
    return {name: 1 - np.count_nonzero(found[name]) / found[name].size for name in layers if name in found}


def multiplications(layers: Collection[Layer], empty: Mapping[str, float]) -> int:
    """Multiplications of one input that are left when those by zero are not made. `empty`: as `zeros` tells it."""
    return round(sum(layer.macs * (1 - empty.get(first_call(layer.name, empty), 0.0)) for layer in layers))


def first_call(layer: str, names: Collection[str]) -> str:
    """The one of `names` whose weight `layer` has: its own, or that of its first call (of `conv:2` it is `conv`)."""
    return layer if layer in names else layer.partition(":")[0]


def written(settings: Mapping[str, Setting], pruned: Pruned | None) -> dict[str, str]:
    """Layer to its settings as a file tells them, in the order in which they applied. `settings`: of the method that
    decided on bits; what is written of `int8` is that."""
    found = {}
    for name, setting in settings.items():
        told = [str(setting) if setting.method != int8.CARD.name or pruned is None else int8.CARD.name]
        if pruned is not None:
            zeros, shapes = pruned.settings, pruned.reshaped
            earlier = [*shapes.get(first_call(name, shapes), ()), *filter(None, [zeros.get(first_call(name, zeros))])]
            told = [*map(str, earlier), *told]
        found[name] = ", ".join(told)
    return found


def pruned_layers(methods: object) -> list[str]:
    """The layers that were pruned, by what a `.shoe` says of its methods (layer to settings), which may be anything."""
    return _layers_of(methods, {name for name, method in METHODS.items() if method.CARD.prunes})


def reshaped_layers(methods: object) -> list[str]:
    """The layers whose shapes were changed, likewise."""
    return _layers_of(methods, {name for name, method in METHODS.items() if method.CARD.reshapes})


def _layers_of(methods: object, names: set[str]) -> list[str]:
    told = methods if isinstance(methods, Mapping) else {}
    return [layer for layer, text in told.items() if names & {part.partition(":")[0] for part in str(text).split(", ")}]
