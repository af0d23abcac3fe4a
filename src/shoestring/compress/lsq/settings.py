"""What a user writes after `lsq:` and `lsq+:`, and which layer gets what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer

RULES = ("min-max", "mean", "mse", "sigma")
_BITS = re.compile(r"w([2-8])a([2-8])")
_CONFIG = re.compile(r"config([1-4])")


@dataclass(frozen=True)
class Bits:
    """Of weights and of the activations that a layer reads."""

    weights: int = 8
    activations: int = 8

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}"


ENDS = Bits(8, 8)  # of the first and the last layer, unless named


@dataclass(frozen=True)
class Lsq:
    """`method`: "lsq" or "lsq+". `config`: the paper's configurations of activations: 1 unsigned, 2 signed, 3 signed
    with an offset, 4 unsigned with an offset. `start`: the rule that sets the first steps and offsets. `per_channel`:
    a weight step for each output. `layers`: (pattern, bits) for the layers whose names match, the last match counts."""

    method: str
    bits: Bits = Bits()
    config: int = 4
    start: str = "mse"
    per_channel: bool = True
    layers: tuple[tuple[str, Bits], ...] = ()

    def __str__(self) -> str:
        words = [str(self.bits), f"config{self.config}", self.start, *([] if self.per_channel else ["tensor"])]
        return ":".join([self.method, *words, *(f"{pattern}={bits}" for pattern, bits in self.layers)])


def parse(default: Lsq, text: str) -> Lsq:
    """Words separated by `:`, in any order, each kind once: `w4a4`, `config3`, one of RULES, `tensor|channel`, and any
    number of `LAYER=w8a8` (with * and ? as in file names). Nothing for `default`. Raises BadInput."""
    found: dict[str, object] = {}
    layers: list[tuple[str, Bits]] = []
    for word in text.split(":") if text else ():
        name, value = _read(default, word)
        if name == "layers":
            layers.append(value)  # type: ignore[arg-type]  # a pair, as `_read` says
        elif name in found:
            raise BadInput(f"{default.method}: {text!r} says {name} twice; write it once")
        else:
            found[name] = value
    return replace(default, **found, layers=tuple(layers))  # type: ignore[arg-type]  # by name, as `_read` says


def assign(layers: Sequence[Layer], setting: Lsq) -> dict[str, Lsq]:
    """The setting of each layer: its own bits where a pattern names it, 8 bits for the first and the last, else the
    setting's. Calls of one layer (`conv`, `conv:2`) have one. Raises BadInput for a pattern that no layer's name
    matches."""
    paths = [layer.name.partition(":")[0] for layer in layers]
    for pattern, _ in setting.layers:
        if not any(fnmatchcase(path, pattern) for path in paths):
            names = ", ".join(layer.name for layer in layers[:3])
            raise BadInput(f"{setting.method}: no layer is called {pattern!r}; layers are {names}, ... (see explain)")
    ends = {*paths[:1], *paths[-1:]}
    assigned = {}
    for layer, path in zip(layers, paths, strict=True):
        named = [bits for pattern, bits in setting.layers if fnmatchcase(path, pattern)]
        bits = [ENDS if path in ends else setting.bits, *named][-1]
        assigned[layer.name] = replace(setting, bits=bits, layers=())
    return assigned


def _read(default: Lsq, word: str) -> tuple[str, object]:
    """The field that a word sets, and its value."""
    pattern, equals, bits = word.rpartition("=")
    if equals and pattern:
        return "layers", (pattern, _bits(default, bits))
    if match := _BITS.fullmatch(word):
        return "bits", Bits(int(match[1]), int(match[2]))
    if (match := _CONFIG.fullmatch(word)) and _fits(default.method, int(match[1])):
        return "config", int(match[1])
    if word in RULES:
        return "start", word
    if word in ("tensor", "channel"):
        return "per_channel", word == "channel"
    configs = "config1|config2" if default.method == "lsq" else "config3|config4"
    raise BadInput(
        f"{default.method}: unknown setting {word!r}; write bits from w2a2 to w8a8, {configs}, {'|'.join(RULES)}, "
        f"channel|tensor or LAYER=w8a8, for example {default.method}:w4a4:stem.*=w8a8"
    )


def _bits(default: Lsq, text: str) -> Bits:
    match = _BITS.fullmatch(text)
    if match is None:
        raise BadInput(f"{default.method}: {text!r} are no bits; write w2a2 to w8a8, weights first")
    return Bits(int(match[1]), int(match[2]))


def _fits(method: str, config: int) -> bool:
    return config in ((1, 2) if method == "lsq" else (3, 4))
