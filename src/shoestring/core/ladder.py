"""Point and Ladder: the operating points of an artifact, cheapest first (DESIGN of the `.shoe` manifest)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.schema import read


@dataclass(frozen=True)
class Point:
    """One operating point. `onnx`: the archive member with the graph. `weights`: tensor to
    `{"member": ..., "slice": [[start, stop], ...]}` for weights shared between points (integer, before scaling), or
    also with `"bits": 2 | 4, "shift": ..., "shape": [...]` for int8 weights packed in the slice of a row of bytes, of
    which a point may have a `"part": [[start, stop], ...]`.
    `scales`, `bias`: tensor to member, a point's own. `measured`: what was measured of it (ms, quality, MB), with
    the runtime it was measured on.

    `after`: the earlier point that this one goes on from: this graph's inputs are, by name, outputs of that graph
    beyond its first. What is measured of it is then of the whole chain, from the input on. `confidence`:
    `{"temperature": T, "threshold": t}`, or nothing; the answer of this point is final where the largest probability of
    softmax(outputs / T) is at least t."""

    onnx: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[str, str] = field(default_factory=dict)
    bias: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    after: int | None = None
    confidence: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Without `after` and `confidence` where there are none: older versions read such a file."""
        absent = {name for name in ("after", "confidence") if getattr(self, name) in (None, {})}
        return {name: value for name, value in asdict(self).items() if name not in absent}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Point":
        """Reads what `to_json` wrote. Raises BadInput on a missing or unknown field or another type."""
        try:
            return read(data, cls, "point")
        except ValueError as error:
            raise BadInput(f"{error}; write the file again with this version") from None


Ladder = tuple[Point, ...]


def chain(points: Ladder, point: int) -> tuple[int, ...]:
    """The points that are run one after the other to get the answer of `point`, itself the last.

    >>> chain((Point("a.onnx"), Point("b.onnx"), Point("c.onnx", after=0)), 2)
    (0, 2)
    """
    found = [point]
    while (before := points[found[-1]].after) is not None:
        found.append(before)
    return tuple(reversed(found))
