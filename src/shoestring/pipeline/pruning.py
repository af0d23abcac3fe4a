"""Pruning in one shot: zeros in the exported graph, before it is quantised, and what they save on paper."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from onnx import ModelProto

from shoestring.compress import METHODS
from shoestring.compress.method import Setting, Weight
from shoestring.core.layer import Layer
from shoestring.deploy.weights import weights, with_weights
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import INT8


@dataclass(frozen=True)
class Pruned:
    """`original`: with zeros in its graph, the layers in `settings`. `features`: entries of the capability contract
    that say what a runtime does with them."""

    original: Original
    settings: Mapping[str, Setting]
    features: tuple[str, ...]


def prune(original: Original, method: ModuleType, settings: Mapping[str, Setting]) -> Pruned:
    """Applies a method that prunes to the float graph, by layer. Warns NoEffectWarning when nothing goes."""
    groups = {layer.name: layer.groups for layer in original.layers}
    found = {name: Weight(value, groups.get(name, 1)) for name, value in weights(original.graph).items()}
    kept = method.keep(found, settings)
    graph = with_weights(original.graph, {name: np.where(mask, found[name].values, 0) for name, mask in kept.items()})
    own = {name: settings[name] for name in kept}
    features = dict.fromkeys(method.feature(setting) for setting in own.values())
    return Pruned(replace(original, graph=graph), own, tuple(features))


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
    """Layer to its settings as a file tells them. After pruning all layers are quantised, and those that lost nothing
    are only that."""
    if pruned is None:
        return {name: str(setting) for name, setting in settings.items()}
    own = {name: pruned.settings.get(first_call(name, pruned.settings)) for name in settings}
    return {name: f"{setting}, {INT8}" if setting else INT8 for name, setting in own.items()}


def pruned_layers(methods: object) -> list[str]:
    """The layers that were pruned, by what a `.shoe` says of its methods (layer to settings), which may be anything."""
    told = methods if isinstance(methods, Mapping) else {}
    names = {name for name, method in METHODS.items() if method.CARD.prunes}
    return [layer for layer, text in told.items() if names & {part.partition(":")[0] for part in str(text).split(", ")}]
