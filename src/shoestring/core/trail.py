"""Trail: the sparsities that a pruning run passes through, each judged, to choose from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.schema import read

SCHEMA = 1


@dataclass(frozen=True)
class TrailPoint:
    """One checkpoint of the run. `progress`: the share of the run that is done, 0..1. `zeros`: share of the pruned
    layers' weights that are zero; `multiplications`: of the network's multiplications, those by zero. `ms`: predicted
    time of the network, where zeros were timed. `quality`: in the trail's unit. `file`: the weights, beside the
    trail."""

    number: int
    progress: float
    zeros: float
    multiplications: float
    quality: float
    file: str
    ms: float | None = None


@dataclass(frozen=True)
class Trail:
    """`method`: as written. `original`: quality of the original on the same `inputs` (how many). `points`: in the order
    of the run. `layers`: layer to its share of zeros at each point."""

    method: str
    metric: str
    unit: str
    higher_is_better: bool
    original: float
    inputs: int
    points: tuple[TrailPoint, ...]
    layers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Trail":
        """Reads what `to_json` wrote. Raises BadInput on another schema, a missing or unknown field or another type,
        and on a layer without one share for each point."""
        schema = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
        if type(schema) is not int or schema != SCHEMA:
            raise BadInput(f"trail: schema {repr(schema)[:40]} is not {SCHEMA}; train again with this version")
        try:
            trail = read({name: item for name, item in data.items() if name != "schema"}, cls, "trail")
        except ValueError as error:
            raise BadInput(f"{error}; train again with this version") from None
        if any(len(shares) != len(trail.points) for shares in trail.layers.values()):
            raise BadInput(f"trail: a layer has not one share for each of {len(trail.points)} points; train again")
        return trail
