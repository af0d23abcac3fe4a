"""What a user writes after `magnitude:`, and which layer gets what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shoestring.core.blocks import DENSE, MOST, Blocks, Named, by_layer, named, words
from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer
from shoestring.core.pattern import BlockPattern, NMPattern

UNIFORM, GLOBAL, MILLISECONDS = "uniform", "global", "milliseconds"
SCOPES = (UNIFORM, GLOBAL, MILLISECONDS)
NORM, TAYLOR = "norm", "taylor"
_HALF = Blocks(BlockPattern(4, 1), 50)
_FIELDS = {**dict.fromkeys(SCOPES, "scope"), NORM: "score", TAYLOR: "score", "regrow": "regrow", "permute": "permute"}


@dataclass(frozen=True)
class Magnitude:
    """`scope`: "global", one threshold for all layers that share this setting, of which none loses more than MOST;
    "uniform", every layer loses the same share; "milliseconds", each loses so much that all together take the measured
    time of "uniform" at the least loss of weight. `score`: of a block, its "norm" or "taylor". `regrow`: what was
    removed still learns and may come back. `permute`: channels are put in an order in which small blocks gather first.
    `layers`: (pattern of names, blocks) for the layers that match, each on its own; the last match counts."""

    blocks: Blocks = _HALF
    scope: str = GLOBAL
    score: str = NORM
    regrow: bool = False
    permute: bool = False
    layers: Named = ()
    method: str = "magnitude"

    def __str__(self) -> str:
        how = [self.score] * (self.score != NORM) + ["regrow"] * self.regrow + ["permute"] * self.permute
        names = (f"{name}={own}" for name, own in self.layers)
        return ":".join([self.method, str(self.blocks), self.scope, *how, *names])


def parse(text: str) -> Magnitude:
    """Words separated by `:`, in any order, each kind once: `4x1@80%`, `2:4` or `dense`, one of SCOPES, `norm` or
    `taylor`, `regrow`, `permute`, and any number of `LAYER=4x1@50%` (with * and ? as in file names). Raises
    BadInput."""
    found: dict[str, object] = {}
    layers: list[tuple[str, Blocks]] = []
    for word in words(text):
        if pair := named(word):
            layers.append((pair[0], _blocks(pair[1])))
            continue
        field = _FIELDS.get(word, "blocks")
        if field in found:
            raise BadInput(f"magnitude: {text!r} says {field} twice; write it once")
        found[field] = _blocks(word) if field == "blocks" else word if field in ("scope", "score") else True
    setting = replace(Magnitude(), **found, layers=tuple(layers))  # type: ignore[arg-type]  # by name, as above
    if isinstance(setting.blocks.pattern, NMPattern):
        return replace(setting, scope=UNIFORM)
    if setting.scope == GLOBAL and setting.blocks.percent > MOST:
        raise BadInput(
            f"magnitude: {text!r} asks for more than {MOST} %, and one threshold for all leaves every layer "
            f"{100 - MOST} %; write at most {MOST}%, or uniform"
        )
    return setting


def assign(layers: Sequence[Layer], setting: Magnitude) -> dict[str, Magnitude]:
    """The setting of each layer: its own blocks where a pattern names it; none removed in the first, the last and
    depthwise layers; else the setting's. Raises BadInput as `core.blocks.by_layer` does."""
    found = by_layer(layers, setting.blocks, setting.layers, setting.method)
    return {
        name: replace(setting, blocks=blocks, layers=(), scope=UNIFORM if own else setting.scope)
        if blocks != DENSE
        else Magnitude(DENSE, UNIFORM)
        for name, (blocks, own) in found.items()
    }


def _blocks(text: str) -> Blocks:
    try:
        return Blocks.parse(text)
    except BadInput as error:
        others = "|".join([*SCOPES, TAYLOR, "regrow", "permute"])
        raise BadInput(
            f"magnitude: {error}, {others}, or LAYER=4x1@50%, for example magnitude:4x1@80%:blocks.1.*=4x1@50%"
        ) from None
