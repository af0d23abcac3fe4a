"""Budget: what the result may cost, as limits with units.

    latency<=2ms, size<=4MB, memory<=30MB, quality>=-1pt, latency<=0.5x, micronet<=0.3

`x` is the ratio to the original in fp32 on its best stock runtime in the same receipt; `pt` are points of the metric
against the original; the MicroNet score (`measure.micronet`) has no unit. A range (`latency=0.5ms..3ms`) asks for a
front.
"""

import math
import re
from dataclasses import dataclass

from shoestring.core.errors import BadInput

# name: (the operator that makes sense, units with their factor to the base unit, which comes first; x is its own)
_LIMITS: dict[str, tuple[str, dict[str, float]]] = {
    "latency": ("<=", {"ms": 1.0, "us": 1e-3, "s": 1e3, "x": 1.0}),
    "size": ("<=", {"B": 1.0, "kB": 1e3, "MB": 1e6, "x": 1.0}),
    "memory": ("<=", {"MB": 1.0, "kB": 1e-3, "GB": 1e3, "x": 1.0}),
    "quality": (">=", {"pt": 1.0}),
    "micronet": ("<=", {"": 1.0}),
}
_REFUSED = {"energy": "no energy meter is read on this machine"}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(
    rf"\s*(?P<name>[a-z_]+)\s*(?P<op><=|>=|=)\s*(?P<low>{_NUMBER})\s*(?P<low_unit>[A-Za-z]*)"
    rf"(?:\s*\.\.\s*(?P<high>{_NUMBER})\s*(?P<high_unit>[A-Za-z]*))?\s*"
)
_EXAMPLE = 'write for example "latency<=2ms, size<=4MB, quality>=-1pt"'


@dataclass(frozen=True)
class Limit:
    """One limit. `value` is in `unit` (ms, B, MB, pt, x for a ratio, or none); `upper` is set for a front."""

    name: str
    op: str
    value: float
    unit: str
    upper: float | None = None

    @property
    def relative(self) -> bool:
        """True when the limit is a ratio to the original."""
        return self.unit == "x"

    def holds(self, got: float) -> bool:
        """`got` in the limit's own unit."""
        return got <= self.value if self.op == "<=" else got >= self.value

    def __str__(self) -> str:
        """What `Budget.parse` reads as exactly this limit."""
        value = _spell(self.name, self.value, self.unit)
        if self.upper is not None:
            return f"{self.name}={value}..{_spell(self.name, self.upper, self.unit)}"
        return f"{self.name}{self.op}{value}"


@dataclass(frozen=True)
class Budget:
    """Limits that must all hold. Raises BadInput when two have one name."""

    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"budget: {name} is limited twice; keep one")

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Reads `LIMIT(<=|>=)VALUE[UNIT], ...`. Raises BadInput with the term that is wrong."""
        return cls(tuple(_parse_limit(term) for term in text.split(",") if term.strip()))

    @classmethod
    def of(
        cls,
        text: str | None = None,
        *,
        latency: str | None = None,
        size: str | None = None,
        memory: str | None = None,
        lose: str | None = None,
    ) -> "Budget":
        """A budget from text and the shell-safe twins (`latency="2ms"`, `lose="1pt"`). Raises BadInput as `parse`."""
        limits = list(cls.parse(text).limits) if text else []
        for name, value in (("latency", latency), ("size", size), ("memory", memory)):
            if value is not None:
                limits.append(_parse_limit(f"{name}<={value}"))
        if lose is not None:
            limits.append(_parse_limit(f"quality>=-{lose.strip().lstrip('+-')}"))
        return cls(tuple(limits))

    def get(self, name: str) -> Limit | None:
        return next((limit for limit in self.limits if limit.name == name), None)

    def __str__(self) -> str:
        return ", ".join(map(str, self.limits))


def _parse_limit(term: str) -> Limit:
    match = _TERM.fullmatch(term)
    if match is None:
        raise BadInput(f"budget: cannot read {term.strip()!r}; {_EXAMPLE}")
    name, op = match["name"], match["op"]
    if name in _REFUSED:
        raise BadInput(f"budget: {name} cannot be limited here: {_REFUSED[name]}; limit {', '.join(_LIMITS)}")
    if name not in _LIMITS:
        raise BadInput(f"budget: unknown limit {name!r}; known are {', '.join(_LIMITS)}")
    sense, _ = _LIMITS[name]
    low, unit = _value(match["low"], match["low_unit"], name)
    if match["high"] is not None:
        high, high_unit = _value(match["high"], match["high_unit"], name)
        if op != "=":
            span = f"{match['low']}{match['low_unit']}..{match['high']}{match['high_unit']}"
            raise BadInput(f"budget: a front is written with =, not {op}; write {name}={span}")
        if high_unit != unit or high <= low:
            raise BadInput(f"budget: {term.strip()!r} is not a rising range in one unit")
        return Limit(name, sense, low, unit, high)
    if op != sense:
        asked = f"{match['low']}{match['low_unit']}"
        raise BadInput(f"budget: {name} is limited by {sense}, not {op}; write {name}{sense}{asked}")
    return Limit(name, op, low, unit)


def _value(number: str, unit: str, name: str) -> tuple[float, str]:
    """A number and its unit in the base unit of the limit."""
    _, units = _LIMITS[name]
    if unit not in units:
        known = f"in {', '.join(units)}" if any(units) else "without a unit"
        raise BadInput(f"budget: {name} is given {known}, got {number + unit!r}")
    value = float(number) * units[unit]
    if not math.isfinite(value):
        raise BadInput(f"budget: {number}{unit} is no finite number; leave {name} out to leave it unlimited")
    if name != "quality" and value <= 0:
        raise BadInput(f"budget: {name} must be above zero, got {number + unit!r}")
    return value, "x" if unit == "x" else next(iter(units))


def _spell(name: str, value: float, unit: str) -> str:
    """The shortest spelling, with a unit, that is read as exactly `value`."""
    units = {other: factor for other, factor in _LIMITS[name][1].items() if (other == "x") == (unit == "x")}
    # Twelve digits undo the rounding of units, so that 4.1MB stays 4.1MB; repr says any number.
    spelt = [(number, u) for u, factor in units.items() for number in (f"{value / factor:.12g}", repr(value / factor))]
    return min((number + u for number, u in spelt if float(number) * units[u] == value), key=len)
