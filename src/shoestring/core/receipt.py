"""Receipt: the proof, as data. `to_json` is the stable schema 1; `report` renders it, `deploy` stores it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.measurement import Measurement
from shoestring.core.schema import read

SCHEMA = 1
HOLDS, FAILS, NOISY = "holds", "fails", "too noisy"


@dataclass(frozen=True)
class Subject:
    """What is judged. `latency_ms`: median of one batch; `peak_mb`: peak memory of a process that loads and runs it."""

    file: str
    runtime: str
    latency_ms: float
    size_bytes: int
    peak_mb: float | None = None
    quality: float | None = None
    cpu_ms: float | None = None


@dataclass(frozen=True)
class Baseline:
    """The original in one precision on one runtime, or another file. `best`: the one to beat: the fastest stock runtime
    of that precision, of another file the fastest of all."""

    name: str
    runtime: str
    latency_ms: float
    size_bytes: int
    quality: float | None = None
    best: bool = True
    cpu_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Speedup:
    """Subject against one baseline: ratio of medians (above 1: the subject is faster) with its 95 % interval.
    `split`: factors that multiply to `ratio` (`runtime`, `precision`, `structure`); `realisation`: measured ratio over
    the ratio of MACs (None when the MACs are equal and nothing was promised)."""

    against: str
    ratio: float
    low: float
    high: float
    split: Mapping[str, float] = field(default_factory=dict)
    realisation: float | None = None


@dataclass(frozen=True)
class Quality:
    """Paired on the same inputs. `difference` = subject - original in `unit`, [low, high] its 95 % interval.
    `agreement`: share of inputs with the same top-1. `divergence`: points of probability moved against the original."""

    metric: str
    unit: str
    original: float
    subject: float
    difference: float
    low: float
    high: float
    n: int
    agreement: float | None = None
    divergence: float | None = None


@dataclass(frozen=True)
class BudgetLine:
    """One limit of the budget: what was asked, what was measured, in `unit`; `met` None when it cannot be told."""

    limit: str
    asked: float
    got: float | None
    unit: str
    met: bool | None


@dataclass(frozen=True)
class LayerTime:
    """Time of one layer in the original (fp32, on the subject's runtime, or on the base one where that has no floats)
    and in the subject, milliseconds."""

    name: str
    original_ms: float
    subject_ms: float


@dataclass(frozen=True)
class Step:
    """A line of the ledger: the network after one more `step` of the way from the original. `latency_ms`: timed in
    turns with the other lines, on the subject's runtime (the original: on the best stock one); `size_bytes`: of its
    weights in the file; `quality`: per cent of the original's outputs kept on calibration inputs that nothing was
    fitted to. `kept`: False for a step that did not pay and was taken back; what follows builds on the line before
    it. `note`: why."""

    step: str
    latency_ms: float
    size_bytes: int
    quality: float
    kept: bool = True
    note: str = ""


@dataclass(frozen=True)
class Rung:
    """One operating point of a file that has several, cheapest first. `shape`: what it is, in words; `latency_ms`:
    timed in turns with the others, on the subject's runtime; `quality` (of the metric), and its `difference` to the
    original with a 95 % interval, None where none was judged; `peak_mb`: of a process that runs it alone."""

    shape: str
    latency_ms: float
    quality: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    peak_mb: float | None = None


@dataclass(frozen=True)
class Receipt:
    """`device`: processor, isa, threads, batch, versions. `notes`: what a reader must know (random weights, no
    training, a runtime left out and why). `micronet`: the score of the subject as it is exported. `ledger`: what each
    step of the way brought, the original first; empty where nobody kept one. `ladder`: all operating points of the
    file, of which the last is the subject; empty where there is one."""

    device: Mapping[str, Any]
    subject: Subject
    baselines: tuple[Baseline, ...]
    speedup: tuple[Speedup, ...]
    quality: Quality | None
    budget: tuple[BudgetLine, ...]
    verdict: str
    layers: tuple[LayerTime, ...] = ()
    notes: tuple[str, ...] = ()
    micronet: Measurement | None = None
    ledger: tuple[Step, ...] = ()
    ladder: tuple[Rung, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Receipt":
        """Reads what `to_json` wrote. Raises BadInput on another schema, a missing or unknown field or another type."""
        schema = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
        if type(schema) is not int or schema != SCHEMA:
            raise BadInput(f"receipt: schema {repr(schema)[:40]} is not {SCHEMA}; measure again with this version")
        try:
            receipt = read({name: item for name, item in data.items() if name != "schema"}, cls, "receipt")
        except ValueError as error:
            raise BadInput(f"{error}; measure again with this version") from None
        if receipt.verdict not in (HOLDS, FAILS, NOISY):
            raise BadInput(f"receipt: the verdict {receipt.verdict[:40]!r} is unknown; measure again with this version")
        return receipt
