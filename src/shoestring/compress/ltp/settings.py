"""What a user writes after `ltp:` and `block_ltp:`, and which layer gets what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shoestring.core.blocks import DENSE, MOST, Blocks, Named, by_layer, named, words
from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer
from shoestring.core.pattern import BlockPattern, NMPattern

_NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?)"
_TEMPERATURE, _PENALTY = re.compile(f"t{_NUMBER}"), re.compile(f"lambda{_NUMBER}")
SINGLE = BlockPattern(1, 1)


@dataclass(frozen=True)
class Ltp:
    """`method`: "ltp" or "block_ltp". `blocks`: the pattern, and how much is to go (see the README for what the share
    means). `temperature`: T0, of the soft masks. `penalty`: lambda; None for one that is steered so that `blocks` is
    met. `layers`: (pattern of names, blocks) for the layers that match; the last match counts."""

    method: str
    blocks: Blocks
    temperature: float = 0.05
    penalty: float | None = None
    layers: Named = ()

    def __str__(self) -> str:
        how = [f"t{self.temperature:g}", *([] if self.penalty is None else [f"lambda{self.penalty:g}"])]
        return ":".join([self.method, str(self.blocks), *how, *(f"{name}={own}" for name, own in self.layers)])

    @property
    def pattern(self) -> BlockPattern:
        assert isinstance(self.blocks.pattern, BlockPattern), "`parse` refuses N:M"
        return self.blocks.pattern


def parse(default: Ltp, text: str) -> Ltp:
    """Words separated by `:`, in any order, each kind once: `4x1@80%` or `dense`, `t0.05`, `lambda0.1`, and any number
    of `LAYER=4x1@50%` (with * and ? as in file names). Nothing for `default`. Raises BadInput."""
    found: dict[str, object] = {}
    layers: list[tuple[str, Blocks]] = []
    for word in words(text):
        if pair := named(word):
            layers.append((pair[0], _blocks(default, text, pair[1])))
            continue
        heat, penalty = _TEMPERATURE.fullmatch(word), _PENALTY.fullmatch(word)
        field = "temperature" if heat else "penalty" if penalty else "blocks"
        if field in found:
            raise BadInput(f"{default.method}: {text!r} says {field} twice; write it once")
        number = heat or penalty
        found[field] = float(number[1]) if number else _blocks(default, text, word)
    setting = replace(default, **found, layers=tuple(layers))  # type: ignore[arg-type]  # by name, as above
    if not setting.temperature > 0:
        raise BadInput(f"{default.method}: {text!r} has no temperature; write t0.05 or another above 0")
    return setting


def assign(layers: Sequence[Layer], setting: Ltp) -> dict[str, Ltp]:
    """The setting of each layer: its own blocks where a pattern names it; none removed in the first, the last and
    depthwise layers; else the setting's. Raises BadInput as `core.blocks.by_layer` does."""
    found = by_layer(layers, setting.blocks, setting.layers, setting.method)
    return {name: replace(setting, blocks=blocks, layers=()) for name, (blocks, _) in found.items()}


def _blocks(default: Ltp, text: str, word: str) -> Blocks:
    try:
        blocks = Blocks.parse(word)
    except BadInput as error:
        example = f"{default.method}:{default.blocks}:head.*=dense"
        raise BadInput(f"{default.method}: {error}, t0.05, lambda0.1 or LAYER=..., for example {example}") from None
    single = blocks.pattern == SINGLE
    if isinstance(blocks.pattern, NMPattern):
        raise BadInput(f"{default.method}: {text!r}: N:M has no threshold to learn; write --method magnitude:{word}")
    if blocks != DENSE and single != (default.method == "ltp"):
        other = "block_ltp" if default.method == "ltp" else "ltp"
        raise BadInput(f"{default.method}: {text!r}: {word} is for {other}; write --method {other}:{word}")
    if blocks.percent > MOST:
        raise BadInput(
            f"{default.method}: {text!r} asks for more than {MOST} %; write at most {blocks.pattern}@{MOST}%"
        )
    return blocks
