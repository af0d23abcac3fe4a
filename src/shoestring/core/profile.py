"""Profile: where the time of a network goes, operator by operator, against what the machine can do. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = 1
COMPUTE, MEMORY, OVERHEAD = "compute", "memory", "overhead"
BOUNDS = (COMPUTE, MEMORY, OVERHEAD)
# Of an operator's time, what its multiply-adds or its bytes must explain, to be called its bound.
EXPLAINS = 0.25


@dataclass(frozen=True)
class Roof:
    """What the machine can do on as many threads: `gmacs`, multiply-adds a second in 1e9 (`how` they were measured),
    and `gigabytes`, bytes read and written a second in 1e9 where as many are moved as in a run of the network."""

    gmacs: float
    gigabytes: float
    how: str


@dataclass(frozen=True)
class Operator:
    """One operator as it was executed, for a whole batch.

    `node`: its name in the file. `label`: what executes it (`conv 1x1 4x1`, `depthwise 3x3`). `ms`: median, as the
    runtime's own clock gives it. `executed`: multiply-adds, without zeros that were skipped, with padding that was not.
    `dense`: those of the layer with all of its weights. `bytes`: inputs, outputs and weights, each once."""

    node: str
    label: str
    ms: float
    executed: int = 0
    dense: int = 0
    bytes: int = 0

    @property
    def gmacs(self) -> float:
        """Multiply-adds a second, in 1e9."""
        return _rate(self.executed, self.ms)

    @property
    def gigabytes(self) -> float:
        """Bytes a second, in 1e9."""
        return _rate(self.bytes, self.ms)

    @property
    def intensity(self) -> float:
        """Multiply-adds a byte."""
        return self.executed / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Profile:
    """`device`: processor, runtime, threads, batch, versions. `ms`: median of a run, not profiled. `operators`: slowest
    first. `notes`: what a reader must know."""

    file: str
    device: Mapping[str, Any]
    ms: float
    roof: Roof
    operators: tuple[Operator, ...]
    notes: tuple[str, ...] = ()

    @property
    def profiled_ms(self) -> float:
        """All operators together, which need not be `ms`: to look at the clock takes time, and so does what lies
        between operators."""
        return sum(operator.ms for operator in self.operators)

    @property
    def peak_share(self) -> float:
        """Of the peak, what a whole run reaches."""
        return _rate(sum(operator.executed for operator in self.operators), self.ms) / self.roof.gmacs

    def share(self, operator: Operator) -> float:
        """Of the time of all operators."""
        return operator.ms / self.profiled_ms if self.profiled_ms > 0 else 0.0

    def bound(self, operator: Operator) -> str:
        """What the operator's time is spent on: its multiply-adds or its bytes, whichever takes longer at the speed of
        the roof, when that is EXPLAINS of its time or more; else neither: starting, waiting, other instructions."""
        needs = {MEMORY: operator.bytes / self.roof.gigabytes, COMPUTE: operator.executed / self.roof.gmacs}
        most = max(needs, key=needs.__getitem__)
        return most if needs[most] / 1e6 >= EXPLAINS * operator.ms else OVERHEAD

    def by_label(self) -> tuple[tuple[Operator, int], ...]:
        """The operators of each label added up, slowest first, each sum with how many they are."""
        found: dict[str, list[Operator]] = {}
        for operator in self.operators:
            found.setdefault(operator.label, []).append(operator)
        sums = [(together(label, same), len(same)) for label, same in found.items()]
        return tuple(sorted(sums, key=lambda item: -item[0].ms))

    def to_json(self) -> dict[str, Any]:
        """All fields, and what follows from them."""
        rows = [
            {
                **asdict(operator),
                "share": self.share(operator),
                "gmacs": operator.gmacs,
                "peak_share": operator.gmacs / self.roof.gmacs,
                "gigabytes": operator.gigabytes,
                "bound": self.bound(operator),
            }
            for operator in self.operators
        ]
        sums = {"profiled_ms": self.profiled_ms, "peak_share": self.peak_share}
        return {"schema": SCHEMA, **asdict(self), **sums, "operators": rows}


def together(label: str, operators: Sequence[Operator]) -> Operator:
    """Their sum, as one operator of no node."""
    ms = sum(operator.ms for operator in operators)
    executed, dense, moved = (sum(getattr(item, name) for item in operators) for name in ("executed", "dense", "bytes"))
    return Operator("", label, ms, executed, dense, moved)


def _rate(count: int, ms: float) -> float:
    return count / ms / 1e6 if ms > 0 else 0.0
