"""Which layers are worth decomposing here: the 8-bit network with all of them decomposed, timed like any option."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import ModelProto

from shoestring.compress import int8, structured_conv
from shoestring.compress.method import Setting
from shoestring.compress.structured_conv.method import own
from shoestring.compress.structured_conv.settings import DENSE
from shoestring.core.device import Device
from shoestring.core.errors import NoEffectWarning
from shoestring.measure.machine import pinned
from shoestring.pipeline.decomposing import decomposed, hindrances
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.table import WORTH, LatencyTable, latency_table

DENSE8, DECOMPOSED = "int8", "structured"
_SHOWN = 4  # names, in a sentence
EXAMPLES = ("n=2", "c=0.5")  # settings for `explain` to tell of


def variant(original: Original, settings: Mapping[str, Setting], inputs: Sequence[np.ndarray]) -> ModelProto:
    """The network in 8 bits, its layers decomposed by `settings`: by the code that exports them, for speed only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoEffectWarning)
        if original.model is None:
            made, _ = decomposed(original, settings)
        else:
            made = remade(original, structured_conv.apply(original.model, settings).bake())  # type: ignore[arg-type]  # captured
    return calibrate(made.graph, inputs, int8.precisions(made.of_kinds(int8.CARD.kinds))).build()


def variants(original: Original, inputs: Sequence[np.ndarray]) -> dict[str, ModelProto]:
    """Each of EXAMPLES, as an option, to the network in 8 bits with every layer decomposed that it is for. None where
    there is no such layer."""
    found = {}
    for text, taken in takes(original).items():
        if taken:
            layers = original.of_kinds(structured_conv.CARD.kinds)
            settings = structured_conv.assign(layers, structured_conv.parse(text))
            found[f"{structured_conv.CARD.name}:{text}"] = variant(original, settings, inputs)
    return found


def takes(original: Original) -> dict[str, frozenset[str]]:
    """Each of EXAMPLES to the layers that it changes."""
    return {text: frozenset(settings) for text, settings in changes(original).items()}


def changes(original: Original) -> dict[str, dict[str, structured_conv.Structured]]:
    """Each of EXAMPLES to the settings of the layers that it changes."""
    layers, found = original.of_kinds(structured_conv.CARD.kinds), {}
    for text in EXAMPLES if layers else ():
        settings, _ = possible(original, structured_conv.assign(layers, structured_conv.parse(text)))
        found[text] = {name: setting for name, setting in settings.items() if setting.kept != DENSE}
    return found


def possible(
    original: Original, settings: Mapping[str, Setting]
) -> tuple[dict[str, structured_conv.Structured], tuple[str, ...]]:
    """`settings` without the layers of a file that cannot be decomposed, and what a reader must know of those."""
    hindered = hindrances(original) if original.model is None else {}
    reasons: dict[str, list[str]] = {}
    found = {name: own(setting) for name, setting in settings.items()}
    for name in found:
        if name in hindered and found[name].kept != DENSE:
            reasons.setdefault(hindered[name], []).append(name)
            found[name] = replace(found[name], kept=DENSE)
    return found, tuple(f"Not decomposed, for {reason}: {_some(names)}." for reason, names in reasons.items())


def timed(
    original: Original,
    settings: Mapping[str, Setting],
    device: Device,
    progress: Callable[[float], object] | None = None,
) -> LatencyTable:
    """Dense and decomposed, layer by layer; what stands beside a layer (`PATH_pool`) is its own."""
    inputs = original.noise()
    dense = calibrate(original.graph, inputs, int8.precisions(original.of_kinds(int8.CARD.kinds))).build()
    variants = {DENSE8: dense, DECOMPOSED: variant(original, settings, inputs)}
    with pinned(device.threads):
        return latency_table(variants, [layer.name for layer in original.layers], device, progress=progress)


def paying(
    original: Original,
    settings: Mapping[str, Setting],
    device: Device,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Setting]:
    """`settings` without the layers that would not be faster on `device`, unless they were named or all were asked for.
    A layer that is called twice is judged by all its calls."""
    asked = {name: setting for name, setting in settings.items() if _asked(setting)}
    if not asked:
        return dict(settings)
    table = timed(original, asked, device, progress)
    calls: dict[str, list[str]] = {}
    for name in asked:
        calls.setdefault(name.partition(":")[0], []).append(name)
    slow = set()
    for names in calls.values():
        dense, decomposed = (sum(table.layers[name][form] for name in names) for form in (DENSE8, DECOMPOSED))
        if decomposed > WORTH * dense:
            slow.update(names)
    return {name: replace(own, kept=DENSE) if name in slow else own for name, own in settings.items()}  # type: ignore[type-var]


def left_dense(asked: Mapping[str, Setting], settings: Mapping[str, Setting], device: Device) -> tuple[str, ...]:
    """What a reader must know of the layers that `paying` took out of `asked`."""
    names = list(dict.fromkeys(name.partition(":")[0] for name in asked if asked[name] != settings[name]))
    if not names:
        return ()
    return (f"Not decomposed, for they would not be faster on {device.runtime}: {_some(names)}.",)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _asked(setting: Setting) -> bool:
    return own(setting).kept != DENSE and not own(setting).everywhere
