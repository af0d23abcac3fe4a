"""What a user writes after `channels:`, and which layer gets what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer

UNIFORM, GLOBAL = "uniform", "global"
MOST = 75  # per cent: of the channels of one width, where the share of each is left to the method
MULTIPLES = (1, 2, 4, 8, 16, 32)
UNMEASURED = 4  # the multiple without `byN` and without a measurement: outputs of a block of the engine
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_BY = {f"by{multiple}": multiple for multiple in MULTIPLES}


@dataclass(frozen=True)
class Channels:
    """`percent` of the output channels are removed, 0 keeps all. `scope`: "uniform", of every width the same share;
    "global", one threshold for all, and no width loses more than MOST per cent. `multiple`: what widths are multiples
    of, None as it is measured (`snapped`). `dense`: patterns of the names of layers that keep all outputs."""

    percent: float = 30
    scope: str = UNIFORM
    multiple: int | None = None
    dense: tuple[str, ...] = ()
    method: str = "channels"

    def __str__(self) -> str:
        share = f"{self.percent:g}%" if self.percent else "dense"
        by = [f"by{self.multiple}"] * (self.multiple is not None)
        return ":".join([self.method, share, self.scope, *by, *(f"{name}=dense" for name in self.dense)])


def parse(text: str) -> Channels:
    """Words separated by `:`, in any order, each kind once: `30%` or `dense`, `uniform` or `global`, `by8` (MULTIPLES),
    and any number of `LAYER=dense` (with * and ? as in file names). Raises BadInput."""
    found: dict[str, object] = {}
    dense: list[str] = []
    for word in text.split(":") if text else []:
        name, equals, own = word.rpartition("=")
        if equals and name and own == "dense":
            dense.append(name)
            continue
        field, value = _word(word, text)
        if field in found:
            raise BadInput(f"channels: {text!r} says {field} twice; write it once")
        found[field] = value
    setting = replace(Channels(), **found, dense=tuple(dense))  # type: ignore[arg-type]  # by name, as in _word
    if setting.scope == GLOBAL and setting.percent > MOST:
        raise BadInput(
            f"channels: {text!r} asks for more than {MOST} %, and one threshold for all leaves every width "
            f"{100 - MOST} %; write at most {MOST}%, or uniform"
        )
    return setting


def assign(layers: Sequence[Layer], setting: Channels) -> dict[str, Channels]:
    """The setting of each layer: nothing removed in the last one and in those that a pattern names (all calls of a
    layer alike), else the setting's. Raises BadInput for a pattern that no layer's name matches."""
    paths = [layer.name.partition(":")[0] for layer in layers]
    for pattern in setting.dense:
        if not any(fnmatchcase(path, pattern) for path in paths):
            names = ", ".join(layer.name for layer in layers[:3])
            raise BadInput(f"channels: no layer is called {pattern!r}; layers are {names}, ... (see explain)")
    own = replace(setting, dense=())
    kept = Channels(0, UNIFORM, setting.multiple)
    return {
        layer.name: kept if path == paths[-1] or any(fnmatchcase(path, name) for name in setting.dense) else own
        for layer, path in zip(layers, paths, strict=True)
    }


def snapped(setting: Channels, multiple: int) -> Channels:
    """The setting with a measured multiple, unless the user wrote one."""
    return setting if setting.multiple is not None else replace(setting, multiple=multiple)


def _word(word: str, text: str) -> tuple[str, object]:
    """The field of Channels that a word sets, and to what."""
    share = _SHARE.fullmatch(word)
    if share and 0 < float(share[1]) < 100:
        return "percent", float(share[1])
    if word == "dense":
        return "percent", 0
    if word in (UNIFORM, GLOBAL):
        return "scope", word
    if word in _BY:
        return "multiple", _BY[word]
    raise BadInput(
        f"channels: unknown setting {word!r} in {text!r}; write SHARE% (above 0, below 100) or dense, {UNIFORM} or "
        f"{GLOBAL}, {', '.join(_BY)}, or LAYER=dense, for example channels:30%:by8:head.*=dense"
    )
