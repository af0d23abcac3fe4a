"""Evaluation: what features and networks are worth and what they cost, in the same rows; `report` renders it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Cost:
    """What one input costs. `params`: parameters; `macs`: multiply-accumulates; `ms_p50`, `ms_p90`: of one call on one
    core; `peak_mb`: the peak memory of a process that does nothing else. None: not measured, or not a network."""

    params: int | None = None
    macs: int | None = None
    ms_p50: float | None = None
    ms_p90: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Row:
    """One subject under one protocol. `mean`, in the unit of the table, with its 95 % interval `low` to `high` over
    `n` scores (splits x seeds, or episodes) of `seeds` seeds. `baseline`: it is there to be compared with."""

    name: str
    protocol: str
    mean: float
    low: float
    high: float
    n: int
    seeds: int
    cost: Cost = Cost()
    baseline: bool = False
    higher_is_better: bool = True
    unit: str = "%"

    @property
    def netscore(self) -> float | None:
        """NetScore+ of an accuracy with all its costs; None where one is missing or the row is no percentage."""
        cost = self.cost
        if self.unit != "%" or not self.higher_is_better or self.mean <= 0:
            return None
        if not (cost.params and cost.macs and cost.ms_p50 and cost.peak_mb):
            return None
        return netscore_plus(self.mean, cost.params, cost.macs, cost.ms_p50, cost.peak_mb)


@dataclass(frozen=True)
class Evaluation:
    """`metric`: what `mean` is where a row says nothing else; `data`: what was judged on and how it was split;
    `notes`: what a reader must know."""

    title: str
    metric: str
    data: str
    rows: tuple[Row, ...]
    device: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """In the order in which they first appear."""
        return tuple(dict.fromkeys(row.protocol for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        rows = [{**asdict(row), "netscore": row.netscore} for row in self.rows]
        return {"schema": SCHEMA, **asdict(self), "rows": rows}


def netscore_plus(accuracy: float, params: float, macs: float, ms: float, peak_mb: float) -> float:
    """NetScore+ of SLNet (ICRA 2026): 20 log10(a^2 / (sqrt(p m) (t r)^(1/4))), accuracy a in per cent, p in millions
    of parameters, m in 1e9 multiply-accumulates, t in ms of one input, r in MB; NetScore (arXiv 1806.05512) with time
    and memory in it. Other units move all scores by the same constant. All arguments above 0."""
    return 20 * math.log10(accuracy**2 / (math.sqrt(params / 1e6 * macs / 1e9) * (ms * peak_mb) ** 0.25))
