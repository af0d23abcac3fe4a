"""What stays of each layer, by its setting and by how far the ramp of sparsity has come."""

from collections.abc import Mapping

import numpy as np

from shoestring.compress.magnitude.masks import masks
from shoestring.compress.magnitude.settings import GLOBAL, MILLISECONDS, Magnitude
from shoestring.compress.method import Setting, Weight
from shoestring.core.allot import allot
from shoestring.core.blocks import MOST
from shoestring.core.cost import Cost
from shoestring.core.errors import BadInput
from shoestring.core.pattern import BlockPattern, NMPattern


def own(setting: Setting) -> Magnitude:
    if not isinstance(setting, Magnitude):
        raise BadInput(f"magnitude: {setting} is not a setting of magnitude")
    return setting


def kept(
    weights: Mapping[str, Weight],
    settings: Mapping[str, Magnitude],
    allotted: Mapping[str, float],
    ramp: float = 1.0,
) -> dict[str, np.ndarray]:
    """Layer to what stays, bool in its shape, of those of `weights` that are to lose something. `allotted`: per cent
    that the layers under a budget lose. `ramp`: the part of every share that goes, 0..1."""
    found: dict[str, np.ndarray] = {}
    together: dict[Magnitude, list[str]] = {}
    for name, weight in weights.items():
        setting = settings[name]
        pattern, percent = setting.blocks.pattern, allotted.get(name, setting.blocks.percent)
        if isinstance(pattern, NMPattern):
            more = round((1 - ramp) * (pattern.of - pattern.kept))
            found[name] = NMPattern(pattern.kept + more, pattern.of).keep(weight.values)
        elif setting.scope == GLOBAL and percent:
            together.setdefault(setting, []).append(name)
        elif percent:
            (found[name],) = masks([weight], pattern, ramp * percent)
    for setting, names in together.items():
        pattern = setting.blocks.pattern
        assert isinstance(pattern, BlockPattern), "N:M has no threshold"
        given = [weights[name] for name in names]
        found.update(zip(names, masks(given, pattern, ramp * setting.blocks.percent, MOST), strict=True))
    return {name: found[name] for name in weights if name in found}


def allotted(
    weights: Mapping[str, Weight], settings: Mapping[str, Magnitude], costs: Mapping[str, Cost] | None
) -> dict[str, float]:
    """Per cent that each layer under a budget of milliseconds loses; the others are not in it. Raises BadInput where
    there are such layers and nothing was measured."""
    budgets: dict[Magnitude, list[str]] = {}
    for name in weights:
        if settings[name].scope == MILLISECONDS and settings[name].blocks.percent:
            budgets.setdefault(settings[name], []).append(name)
    found: dict[str, float] = {}
    for setting, names in budgets.items():
        if missing := [name for name in names if name not in (costs or {})]:
            raise BadInput(
                f"magnitude: {setting} goes by milliseconds, and zeros of {missing[0]} were not timed; they are where "
                f"the engine runs (see shoestring devices), else write {GLOBAL}"
            )
        assert costs is not None, "none is missing"
        pattern = setting.blocks.pattern
        assert isinstance(pattern, BlockPattern), "N:M has no scope"
        norms = {name: pattern.norms(weights[name].values, weights[name].groups) for name in names}
        sizes = {name: pattern.sizes(weights[name].values.shape, weights[name].groups) for name in names}
        found.update(allot(norms, sizes, setting.blocks.percent, costs))
    return found
