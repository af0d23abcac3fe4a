"""Budget: what the result may cost, as limits with units.

    latency<=2ms, size<=4MB, memory<=30MB, quality>=-1pt, latency<=0.5x

`x` is the ratio to the original in fp32 on its best stock runtime in the same receipt; `pt` are points of the metric
against the original. A range (`latency=0.5ms..3ms`) asks for a front.
"""

import re
from dataclasses import dataclass

from shoestring.core.errors import BadInput

# name: (the operator that makes sense, units with their factor to the base unit, base unit)
_LIMITS: dict[str, tuple[str, dict[str, float], str]] = {
    "latency": ("<=", {"us": 1e-3, "ms": 1.0, "s": 1e3, "x": 1.0}, "ms"),
    "size": ("<=", {"B": 1.0, "kB": 1e3, "MB": 1e6, "x": 1.0}, "B"),
    "memory": ("<=", {"kB": 1e-3, "MB": 1.0, "GB": 1e3, "x": 1.0}, "MB"),
    "quality": (">=", {"pt": 1.0}, "pt"),
}
_REFUSED = {
    "energy": "no energy meter is read on this machine",
    "micronet": "the MicroNet score is not computed yet",
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(
    rf"\s*(?P<name>[a-z_]+)\s*(?P<op><=|>=|=)\s*(?P<low>{_NUMBER})\s*(?P<low_unit>[A-Za-z]*)"
    rf"(?:\s*\.\.\s*(?P<high>{_NUMBER})\s*(?P<high_unit>[A-Za-z]*))?\s*"
)
_EXAMPLE = 'write for example "latency<=2ms, size<=4MB, quality>=-1pt"'


@dataclass(frozen=True)
class Limit:
    """One limit. `value` is in `unit` (ms, B, MB, pt, or x for a ratio); `upper` is set when a front was asked for."""

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
        if self.upper is not None:
            return f"{self.name}={self.value:g}{self.unit}..{self.upper:g}{self.unit}"
        return f"{self.name}{self.op}{self.value:g}{self.unit}"


@dataclass(frozen=True)
class Budget:
    """Limits that must all hold. At most one a name."""

    limits: tuple[Limit, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Reads `LIMIT(<=|>=)VALUE[UNIT], ...`. Raises BadInput with the term that is wrong."""
        return cls._of(_parse_limit(term) for term in text.split(",") if term.strip())

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
        """A budget from text and the shell-safe twins (`latency="2ms"`, `size="4MB"`, `lose="1pt"`)."""
        limits = list(cls.parse(text).limits) if text else []
        for name, value in (("latency", latency), ("size", size), ("memory", memory)):
            if value is not None:
                limits.append(_parse_limit(f"{name}<={value}"))
        if lose is not None:
            limits.append(_parse_limit(f"quality>=-{lose.lstrip('+-')}"))
        return cls._of(limits)

    @classmethod
    def _of(cls, limits) -> "Budget":
        limits = tuple(limits)
        names = [limit.name for limit in limits]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"budget: {name} is limited twice; keep one")
        return cls(limits)

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
    sense, units, _ = _LIMITS[name]
    low, unit = _value(match["low"], match["low_unit"], name)
    if match["high"] is not None:
        if op != "=":
            raise BadInput(f"budget: a front is written with '=': {name}={term.split(op, 1)[1].strip()}")
        high, high_unit = _value(match["high"], match["high_unit"], name)
        if high_unit != unit or high <= low:
            raise BadInput(f"budget: {term.strip()!r} is not a rising range in one unit")
        return Limit(name, sense, low, unit, high)
    if op != sense:
        raise BadInput(f"budget: {name} is limited by {sense}, not {op}; write {name}{sense}{match['low']}{match['low_unit']}")
    if name != "quality" and low <= 0:
        raise BadInput(f"budget: {name} must be above zero, got {term.strip()!r}")
    return Limit(name, op, low, unit)


def _value(number: str, unit: str, name: str) -> tuple[float, str]:
    """A number and its unit in the base unit of the limit."""
    _, units, base = _LIMITS[name]
    if unit not in units:
        raise BadInput(f"budget: {name} is given in {', '.join(units)}, got {number + unit!r}")
    return float(number) * units[unit], "x" if unit == "x" else base
