"""What a user writes after `structured:`, and which layer gets what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, Layer

STRENGTH = 1.0  # lambda: at the rates that suit a trained network, 0.1 hardly moves its weights
_KEPT = re.compile(r"(?:c(0?\.\d+|1(?:\.0*)?))?(?:n(\d+))?")
_C = re.compile(r"c=(0?\.\d+)")
_N = re.compile(r"n=(\d+)")
_LAMBDA = re.compile(r"lambda(\d+(?:\.\d+)?)")
_HELP = (
    "write n=N (taps that a kernel keeps along each axis), c=SHARE (of the input channels of 1x1 and linear layers), "
    "lambdaX, all, or LAYER=n2|c0.5|c0.5n2|dense, for example structured:n=2:c=0.5:layer4.*=dense"
)


@dataclass(frozen=True)
class Kept:
    """What is left of a kernel: `c`, the share of its input channels, and `n`, the taps along each axis; None: all."""

    c: float | None = None
    n: int | None = None

    def __str__(self) -> str:
        return ("" if self.c is None else f"c{self.c:g}") + ("" if self.n is None else f"n{self.n}") or "dense"

    def channels(self, inputs: int) -> int | None:
        """How many of `inputs` channels are kept, at least one; None for all."""
        return None if self.c is None else max(1, int(inputs * self.c + 1e-9))


DENSE = Kept()


@dataclass(frozen=True)
class Structured:
    """`kept`: `n` for the layers whose kernel is larger, `c` for 1x1 and linear layers. `strength`: lambda, of the
    penalty that draws weights to structured ones while they train; 0 puts them there at the start. `everywhere`: also
    where the decomposed layer was not measured to be faster. `layers`: (pattern of names, what is left) for the layers
    that match, measured or not; the last match counts."""

    kept: Kept = Kept(n=2)
    strength: float = STRENGTH
    everywhere: bool = False
    layers: tuple[tuple[str, Kept], ...] = ()
    method: str = "structured"

    def __str__(self) -> str:
        whole = ["dense"] * (self.kept == DENSE and not self.layers)
        sizes = [f"n={self.kept.n}"] * (self.kept.n is not None) + [f"c={self.kept.c}"] * (self.kept.c is not None)
        how = [f"lambda{self.strength:g}"] * (self.strength != STRENGTH) + ["all"] * self.everywhere
        return ":".join([self.method, *sizes, *whole, *how, *(f"{name}={own}" for name, own in self.layers)])


def parse(text: str) -> Structured:
    """Words separated by `:`, in any order, each kind once: `n=2`, `c=0.5`, `lambda0.1`, `all`, and any number of
    `LAYER=n2` (or `c0.5`, `c0.5n2`, `dense`; with * and ? as in file names). Nothing for n=2. Raises BadInput."""
    found: dict[str, object] = {}
    layers: list[tuple[str, Kept]] = []
    for word in text.split(":") if text else []:
        if word.startswith(("c=", "n=")) or "=" not in word:
            field, value = _word(word, text)
            if field in found:
                raise BadInput(f"structured: {text!r} says {word.partition('=')[0]} twice; write it once")
            found[field] = value
        else:
            name, _, own = word.rpartition("=")
            layers.append((name, _kept(own, text)))
    kept = Kept(found.pop("c", None), found.pop("n", None))  # type: ignore[arg-type]  # by name, as in _word
    if kept == DENSE and not layers:
        kept = Structured().kept
    return replace(Structured(kept), **found, layers=tuple(layers))  # type: ignore[arg-type]  # likewise


def assign(layers: Sequence[Layer], setting: Structured) -> dict[str, Structured]:
    """The setting of each layer, without names of others: its own where a pattern names it (all calls of a layer
    alike); nothing done to the first and the last one and to sums; `n` to those with a larger kernel, `c` to 1x1 and
    linear layers without groups. Raises BadInput for a pattern that no layer's name matches, and for what a named layer
    cannot have."""
    paths = [layer.name.partition(":")[0] for layer in layers]
    for pattern, _ in setting.layers:
        if not any(fnmatchcase(path, pattern) for path in paths):
            names = ", ".join(layer.name for layer in layers[:3])
            raise BadInput(f"structured: no layer is called {pattern!r}; layers are {names}, ... (see explain)")
    found, ends = {}, {paths[0], paths[-1]}
    for layer, path in zip(layers, paths, strict=True):
        own = [kept for pattern, kept in setting.layers if fnmatchcase(path, pattern)]
        if own:
            _require(layer, own[-1])
        kept = own[-1] if own else DENSE if path in ends or layer.fixed else _suits(layer, setting.kept)
        everywhere = kept != DENSE and (bool(own) or setting.everywhere)
        found[layer.name] = replace(setting, kept=kept, everywhere=everywhere, layers=())
    return found


def _suits(layer: Layer, kept: Kept) -> Kept:
    """What a setting for the whole network leaves of a layer."""
    if layer.kind not in (CONV, DEPTHWISE, LINEAR):
        return DENSE
    if max(layer.weight[2:], default=1) > 1:
        larger = kept.n is not None and max(layer.weight[2:]) > kept.n
        return Kept(n=kept.n) if larger else DENSE
    return (
        Kept(c=kept.c) if layer.groups == 1 and kept.channels(layer.weight[1]) not in (None, layer.weight[1]) else DENSE
    )


def _require(layer: Layer, kept: Kept) -> None:
    if kept.c is not None and layer.groups > 1:
        raise BadInput(f"structured: {layer.name} has groups, whose channels cannot be summed over; give it n only")
    if kept.n is not None and max(layer.weight[2:], default=1) <= kept.n:
        size = "x".join(map(str, layer.weight[2:])) or "no"
        raise BadInput(f"structured: {layer.name} has a kernel of {size} taps; n={kept.n} leaves it as it is")


def _word(word: str, text: str) -> tuple[str, object]:
    """The field that a word sets, and to what."""
    if word == "all":
        return "everywhere", True
    if match := _LAMBDA.fullmatch(word):
        return "strength", float(match[1])
    if (match := _C.fullmatch(word)) and float(match[1]) > 0:
        return "c", float(match[1])
    if (match := _N.fullmatch(word)) and int(match[1]) > 0:
        return "n", int(match[1])
    raise BadInput(f"structured: unknown setting {word!r} in {text!r}; {_HELP}")


def _kept(word: str, text: str) -> Kept:
    match = _KEPT.fullmatch(word)
    if word == "dense" or (match and word):
        c, n = match.groups() if match and word != "dense" else (None, None)
        if n != "0" and (c is None or 0 < float(c) < 1):
            return Kept(None if c is None else float(c), None if n is None else int(n))
    raise BadInput(f"structured: {word!r} in {text!r} is nothing a layer can keep; {_HELP}")
