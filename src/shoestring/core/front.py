"""Front: several budgets fitted, one file each, cheapest first, as data; `report` renders it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoestring.core.receipt import Baseline

SCHEMA = 1


@dataclass(frozen=True)
class FrontPoint:
    """A file and what its receipt says. `asked`: its budget; `quality`: of the metric, with `low` and `high` the 95 %
    interval of the `difference` to the original in points (None without a quality); `speedup`: against the original in
    fp32 on its best stock runtime. `dominated`: another point is no slower and no worse, and one of both is better."""

    file: str
    asked: str
    runtime: str
    latency_ms: float
    size_bytes: int
    speedup: float
    verdict: str
    quality: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    dominated: bool = False


@dataclass(frozen=True)
class Front:
    """`metric`, `unit`: of the quality, empty without one. `points`: fastest first. `baselines`: of the first point's
    receipt. `notes`: what a reader must know (limits that could not be met)."""

    model: str
    budget: str
    device: Mapping[str, Any]
    points: tuple[FrontPoint, ...]
    baselines: tuple[Baseline, ...] = ()
    metric: str = ""
    unit: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}
