"""Proposal: a plan before anything is applied, with all that was considered, as data; `report` renders it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1
UNCHANGED = "fp32"


@dataclass(frozen=True)
class Considered:
    """An option of a layer. `option`: as the command line spells it (`magnitude:4x1@50%`), UNCHANGED for the layer as
    it is. `ms`: measured, of the layer on the device; `size`: its weights in the file, bytes. `loss`: what it does to
    the network's outputs when it is the only change, after reconstruction: of the share that is left of them, 1 - mean
    squared relative error, the negative logarithm (0.01 is an error of a tenth of their size); `noise`: the standard
    error of that over the inputs it was measured on."""

    option: str
    ms: float
    size: int
    loss: float
    noise: float = 0.0


@dataclass(frozen=True)
class PlannedLayer:
    """A layer with its options, the one that was taken, and the one that would be taken if that were not there (empty
    where there is no other, or none meets the limits)."""

    layer: str
    options: tuple[Considered, ...]
    pick: str
    runner_up: str = ""

    @property
    def picked(self) -> Considered:
        return next(option for option in self.options if option.option == self.pick)


@dataclass(frozen=True)
class Proposal:
    """`budget`: as it was asked. `original`: ms (fp32 on its best stock runtime here) and bytes of the original, by
    limit (`latency`, `size`). `limits`: what is asked of the whole network in ms, bytes and, where quality is limited,
    loss. `totals`: what the plan is expected to take, `loss` among them. `prices`: loss that one more ms or byte would
    save. `gap`: proven distance of the plan from the best, in loss. `methods`: what `--method` would have to say to get
    the same. `runtimes`: of each runtime that was looked at, the totals of its best plan. `met`: whether the limits are
    expected to hold; `reason`: why not, and what would do. `notes`: what a reader must know."""

    model: str
    budget: str
    device: Mapping[str, Any]
    layers: tuple[PlannedLayer, ...]
    original: Mapping[str, float]
    limits: Mapping[str, float]
    totals: Mapping[str, float]
    prices: Mapping[str, float] = field(default_factory=dict)
    gap: float = 0.0
    methods: tuple[str, ...] = ()
    runtimes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    met: bool = True
    reason: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}
