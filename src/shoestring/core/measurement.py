"""Measurement: a number that says how it was made."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """`value` (median of `n` samples) in `unit`; `low`, `high` bound its 95 % interval; `how` and `on` say the method
    and the device."""

    value: float
    unit: str
    n: int
    low: float
    high: float
    how: str
    on: str

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit} [{self.low:.4g}, {self.high:.4g}]"
