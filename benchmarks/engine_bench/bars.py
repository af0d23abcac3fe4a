"""Bars: claims with the measured interval, and what is said of them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from shoestring.core.receipt import FAILS, HOLDS
from shoestring.core.statistics import Interval, judge

_WORDS = {HOLDS: "met", FAILS: "MISSED"}


@dataclass(frozen=True)
class Bar:
    """A claim: `interval` is `op` (<= or >=) `limit`."""

    claim: str
    interval: Interval
    op: str
    limit: float

    @property
    def verdict(self) -> str:
        found = judge(self.interval, self.op, self.limit)
        return _WORDS.get(found, found)

    def told(self) -> dict[str, object]:
        return {**asdict(self), "verdict": self.verdict}


def print_bars(bars: Iterable[Bar]) -> None:
    print("\nbars")
    for bar in bars:
        print(f"{bar.verdict:10}{bar.claim}: {shown(bar.interval)}, {bar.op} {bar.limit:g}")


def shown(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
