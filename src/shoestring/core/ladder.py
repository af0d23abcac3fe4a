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
    also with `"bits": 2 | 4, "shift": ..., "shape": [...]` for int8 weights packed in the slice of a row of bytes.
    `scales`, `bias`: tensor to member, a point's own. `measured`: what was measured of it (ms, quality, MB), with
    the runtime it was measured on."""

    onnx: str
    weights: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[str, str] = field(default_factory=dict)
    bias: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Point":
        """Reads what `to_json` wrote. Raises BadInput on a missing or unknown field or another type."""
        try:
            return read(data, cls, "point")
        except ValueError as error:
            raise BadInput(f"{error}; write the file again with this version") from None


Ladder = tuple[Point, ...]
