"""Explanation: what each method would really do to each layer on this device, as data; `report` renders it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, WRONG
from shoestring.core.layer import Layer

SCHEMA = 1
UNKNOWN = "unknown"
VERDICTS = (RUNS, NO_EFFECT, STORED_ONLY, SLOWER, WRONG, UNKNOWN)


@dataclass(frozen=True)
class Effect:
    """What one setting of one method does to one layer.

    `verdict`: the runtime executes it (`runs`), ignores it (`no effect`), stores it smaller and computes as before
    (`stored only`), takes longer (`slower`), computes something else (`wrong`), or nobody has looked (`unknown`).
    `ms`: measured time of the layer, None when it was not measured. `source`: who says so.
    """

    method: str
    setting: str
    verdict: str
    ms: float | None = None
    note: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """As the command line spells it: `int8`, `lsq+:w4a4`."""
        return f"{self.method}:{self.setting}" if self.setting else self.method


@dataclass(frozen=True)
class ExplainedLayer:
    """A layer, its time in the original (fp32, milliseconds, None when the runtime fused it away) and its effects."""

    layer: Layer
    original_ms: float | None = None
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """`device`: processor, runtime, threads, versions. `totals`: milliseconds of the whole network as measured,
    `original` for the original and `Effect.name` for the network with that setting in every layer that takes it.
    `notes`: what a reader must know (random weights, a layer left out and why)."""

    model: str
    device: Mapping[str, Any]
    layers: tuple[ExplainedLayer, ...]
    totals: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of all settings that occur, in the order of their first layer."""
        return tuple(dict.fromkeys(effect.name for item in self.layers for effect in item.effects))

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}
