"""Trail: the sparsities that a pruning run passes through, each judged, to choose from."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.schema import one_line, read

SCHEMA = 1
_SLACK = 1e-6  # shares are sums of floats


@dataclass(frozen=True)
class TrailPoint:
    """One checkpoint of the run. `progress`: the share of the run that is done, 0..1. `zeros`: share of the pruned
    layers' weights that are zero; `multiplications`: of the network's multiplications, those by zero. `ms`: predicted
    time of the network, where zeros were timed. `quality`: in the trail's unit. `file`: the weights, beside the
    trail. `band`: share of the blocks that are near their threshold, where thresholds are learned."""

    number: int
    progress: float
    zeros: float
    multiplications: float
    quality: float
    file: str
    ms: float | None = None
    band: float | None = None


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
        """Reads what `to_json` wrote. Raises BadInput on another schema, a missing or unknown field or another type, no
        points, a share outside 0..1, a file that is not beside the trail, and on a layer without one share for each
        point."""
        schema = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
        if type(schema) is not int or schema != SCHEMA:
            raise BadInput(f"trail: schema {repr(schema)[:40]} is not {SCHEMA}; train again with this version")
        try:
            trail = read({name: item for name, item in data.items() if name != "schema"}, cls, "trail")
        except ValueError as error:
            raise BadInput(f"{error}; train again with this version") from None
        if fault := next(_faults(trail), None):
            raise BadInput(f"trail: {fault}; train again")
        return trail

    def lost(self, point: TrailPoint) -> float:
        """What a point is worse than the original, in the trail's unit."""
        return (self.original - point.quality) * (1 if self.higher_is_better else -1)


def _faults(trail: Trail) -> Iterator[str]:
    """What types do not tell."""
    if not trail.points:
        yield "it has no points"
    for point in trail.points:
        for name in ("progress", "zeros", "multiplications", "band"):
            share = getattr(point, name)
            if share is not None and not _is_share(share):
                yield f"{name} of point {point.number} is {share:g}, which is not in 0..1"
        if point.file != one_line(point.file) or point.file in ("", ".", "..") or {"/", "\\"} & set(point.file):
            yield f"{one_line(point.file)[:40]!r} is no name of a file beside it"
    for name, shares in trail.layers.items():
        if len(shares) != len(trail.points):
            yield f"a layer has not one share for each of {len(trail.points)} points"
        if not all(map(_is_share, shares)):
            yield f"zeros of {one_line(name)[:40]!r} are not in 0..1"


def _is_share(value: float) -> bool:
    """False for what is not a number, too."""
    return -_SLACK <= value <= 1 + _SLACK
