"""What a user writes after `magnitude:`, and which layer gets what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from shoestring.core.errors import BadInput
from shoestring.core.layer import DEPTHWISE, Layer
from shoestring.core.pattern import BlockPattern

UNIFORM, GLOBAL = "uniform", "global"
MOST = 95  # per cent: of a layer, where one threshold is set for all
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


@dataclass(frozen=True)
class Blocks:
    """`percent` of a layer's weights are removed, in blocks of `pattern`. 0 leaves the layer dense."""

    pattern: BlockPattern
    percent: float

    def __str__(self) -> str:
        return f"{self.pattern}@{self.percent:g}%" if self.percent else "dense"


DENSE = Blocks(BlockPattern(1, 1), 0)


@dataclass(frozen=True)
class Magnitude:
    """`scope`: "global", one threshold for all layers that share this setting, of which none loses more than MOST;
    "uniform", every layer loses the same share. `layers`: (pattern of names, blocks) for the layers that match, each on
    its own; the last match counts."""

    blocks: Blocks = Blocks(BlockPattern(4, 1), 50)
    scope: str = GLOBAL
    layers: tuple[tuple[str, Blocks], ...] = ()
    method: str = "magnitude"

    def __str__(self) -> str:
        return ":".join([self.method, str(self.blocks), self.scope, *(f"{name}={own}" for name, own in self.layers)])


def parse(text: str) -> Magnitude:
    """Words separated by `:`, in any order, each kind once: `4x1@80%` or `dense`, `uniform` or `global`, and any number
    of `LAYER=4x1@50%` (with * and ? as in file names). Raises BadInput."""
    found: dict[str, object] = {}
    layers: list[tuple[str, Blocks]] = []
    for word in text.split(":") if text else ():
        name, equals, own = word.rpartition("=")
        if equals and name:
            layers.append((name, _blocks(own)))
            continue
        field = "scope" if word in (UNIFORM, GLOBAL) else "blocks"
        if field in found:
            raise BadInput(f"magnitude: {text!r} says {field} twice; write it once")
        found[field] = word if field == "scope" else _blocks(word)
    setting = replace(Magnitude(), **found, layers=tuple(layers))  # type: ignore[arg-type]  # by name, as above
    if setting.scope == GLOBAL and setting.blocks.percent > MOST:
        raise BadInput(
            f"magnitude: {text!r} asks for more than {MOST} %, and one threshold for all leaves every layer "
            f"{100 - MOST} %; write at most {MOST}%, or uniform"
        )
    return setting


def assign(layers: Sequence[Layer], setting: Magnitude) -> dict[str, Magnitude]:
    """The setting of each layer: its own blocks where a pattern names it; none removed in the first, the last and
    depthwise layers; else the setting's. Calls of one layer (`conv`, `conv:2`) have one. Raises BadInput for a pattern
    that no layer's name matches, and for blocks larger than a layer's groups."""
    paths = [layer.name.partition(":")[0] for layer in layers]
    for pattern, _ in setting.layers:
        if not any(fnmatchcase(path, pattern) for path in paths):
            names = ", ".join(layer.name for layer in layers[:3])
            raise BadInput(f"magnitude: no layer is called {pattern!r}; layers are {names}, ... (see explain)")
    ends = {*paths[:1], *paths[-1:]}
    assigned = {}
    for layer, path in zip(layers, paths, strict=True):
        own = setting if path not in ends and layer.kind != DEPTHWISE else Magnitude(DENSE, UNIFORM)
        for pattern, blocks in setting.layers:
            if fnmatchcase(path, pattern):
                own = Magnitude(blocks, UNIFORM)
        _require_fit(layer, path, own.blocks)
        assigned[layer.name] = replace(own, layers=())
    return assigned


def _require_fit(layer: Layer, path: str, blocks: Blocks) -> None:
    nearest = blocks.pattern.within(layer.weight, layer.groups)
    if nearest != blocks.pattern:
        held = f"{layer.weight[0] // layer.groups}x{layer.weight[1]}{' in each group' if layer.groups > 1 else ''}"
        raise BadInput(
            f"magnitude: blocks of {blocks.pattern} do not fit {layer.name}, which is {held}; "
            f"write {path}={replace(blocks, pattern=nearest)} or {path}=dense"
        )


def _blocks(text: str) -> Blocks:
    if text == "dense":
        return DENSE
    pattern, _, share = text.partition("@")
    match = _SHARE.fullmatch(share)
    try:
        blocks = Blocks(BlockPattern.parse(pattern), float(match[1]) if match else 0)
    except BadInput:
        blocks = DENSE
    if not 0 < blocks.percent < 100:
        raise BadInput(
            f"magnitude: unknown setting {text!r}; write OUTPUTSxINPUTS@SHARE% (above 0, below 100) or dense, "
            f"uniform|global, or LAYER=4x1@50%, for example magnitude:4x1@80%:blocks.1.*=4x1@50%"
        )
    return blocks
