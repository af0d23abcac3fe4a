"""Blocks: what a layer loses when it is pruned, as a user writes it, and which layer loses what.

All methods that prune share this: `4x1@80%`, `2:4`, `dense`, and `LAYER=4x1@50%` for layers by name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from shoestring.core.errors import BadInput
from shoestring.core.layer import DEPTHWISE, Layer
from shoestring.core.pattern import BlockPattern, NMPattern, Pattern, parse_pattern

MOST = 95  # per cent: of a layer, where the share of each is left to a method
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
# Between two words; not the one of `2:4`.
_COLON = re.compile(r"(?<!\d):|:(?!\d+(?::|$))")


@dataclass(frozen=True)
class Blocks:
    """`percent` of a layer's weights are removed, in blocks of `pattern`. 0 leaves the layer dense; N:M says itself
    how much goes."""

    pattern: Pattern
    percent: float

    @classmethod
    def parse(cls, text: str) -> "Blocks":
        """`4x1@80%` (above 0, below 100), `2:4` or `dense`. Raises BadInput."""
        if text == "dense":
            return DENSE
        name, _, share = text.partition("@")
        match = _SHARE.fullmatch(share)
        try:
            pattern = parse_pattern(name)
            percent = pattern.percent if isinstance(pattern, NMPattern) else float(match[1]) if match else 0
            if 0 < percent < 100 and (match is None) == isinstance(pattern, NMPattern) and (match or not share):
                return cls(pattern, percent)
        except BadInput:
            pass
        raise BadInput(
            f"unknown setting {text!r}; write OUTPUTSxINPUTS@SHARE% (above 0, below 100), KEPT:OF such as 2:4, or dense"
        )

    def __str__(self) -> str:
        if isinstance(self.pattern, NMPattern):
            return str(self.pattern)
        return f"{self.pattern}@{self.percent:g}%" if self.percent else "dense"


DENSE = Blocks(BlockPattern(1, 1), 0)
Named = tuple[tuple[str, Blocks], ...]


def words(text: str) -> list[str]:
    """What stands between the colons of a setting; `2:4` is one word."""
    return _COLON.split(text) if text else []


def named(word: str) -> tuple[str, str] | None:
    """(pattern of names, what it gets) of a word such as `head.*=dense`."""
    name, equals, own = word.rpartition("=")
    return (name, own) if equals and name else None


def by_layer(
    layers: Sequence[Layer], blocks: Blocks, named: Named, method: str, nearest: bool = False
) -> dict[str, tuple[Blocks, bool]]:
    """What each layer loses, and whether it was named: by the last pattern that matches its name; nothing in the first,
    the last and depthwise layers; else `blocks`. Calls of one layer (`conv`, `conv:2`) have one. Raises BadInput, in
    the name of `method`, for a pattern that no layer's name matches, and for blocks that do not fit a layer, unless it
    is to get the `nearest` that do."""
    paths = [layer.name.partition(":")[0] for layer in layers]
    for pattern, _ in named:
        if not any(fnmatchcase(path, pattern) for path in paths):
            names = ", ".join(layer.name for layer in layers[:3])
            raise BadInput(f"{method}: no layer is called {pattern!r}; layers are {names}, ... (see explain)")
    ends = {*paths[:1], *paths[-1:]}
    found = {}
    for layer, path in zip(layers, paths, strict=True):
        own = [blocks for pattern, blocks in named if fnmatchcase(path, pattern)]
        idle = path in ends or layer.kind == DEPTHWISE
        chosen = own[-1] if own else DENSE if idle else blocks
        if nearest:
            chosen = fitting(chosen, layer)
        _require_fit(layer, path, chosen, method)
        found[layer.name] = (chosen, bool(own) or idle)
    return found


def _require_fit(layer: Layer, path: str, blocks: Blocks, method: str) -> None:
    nearest = fitting(blocks, layer)
    if nearest != blocks:
        held = f"{layer.weight[0] // layer.groups}x{layer.weight[1]}{' in each group' if layer.groups > 1 else ''}"
        raise BadInput(
            f"{method}: blocks of {blocks.pattern} do not fit {layer.name}, which is {held}; "
            f"write {path}={nearest} or {path}=dense"
        )


def fitting(blocks: Blocks, layer: Layer) -> Blocks:
    """The nearest that `layer` can hold: itself if it fits; where there are too few inputs for N:M, single weights."""
    if isinstance(blocks.pattern, NMPattern):
        return blocks if blocks.pattern.fits(layer.weight) else Blocks(BlockPattern(1, 1), blocks.percent)
    return replace(blocks, pattern=blocks.pattern.within(layer.weight, layer.groups))
