"""Cost: what a layer takes on a device, by the share of its weights that are zero in a pattern, as measured."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from shoestring.core.errors import BadInput


@dataclass(frozen=True)
class Cost:
    """Milliseconds `ms` at `zeros` (shares 0..1 from 0 upwards), on straight lines in between, constant beyond. Zeros
    never make a layer slower: a measurement that says so is noise, and the least before it counts. Raises BadInput
    unless both are of one length, of two or more, `zeros` ascending from 0, and `ms` finite and not negative."""

    zeros: tuple[float, ...]
    ms: tuple[float, ...]

    def __post_init__(self) -> None:
        shares, times = np.array(self.zeros), np.array(self.ms)
        sound = len(shares) == len(times) >= 2 and shares[0] == 0 and (np.diff(shares) > 0).all() and shares[-1] <= 1
        if not (sound and np.isfinite(times).all() and (times >= 0).all()):
            raise BadInput(f"cost: {self.ms} ms at {self.zeros} is no measurement of rising shares of zeros from 0")
        object.__setattr__(self, "ms", tuple(float(ms) for ms in np.minimum.accumulate(times)))

    def at(self, share: float) -> float:
        """Milliseconds with that share of zeros."""
        return float(np.interp(share, self.zeros, self.ms))

    def slope(self, share: float) -> float:
        """Milliseconds that are saved by a unit more of zeros, at least 0; beyond the last measured share those of the
        last line, so that it is never free to stop."""
        after = min(max(bisect_right(self.zeros, share), 1), len(self.zeros) - 1)
        rise = self.zeros[after] - self.zeros[after - 1]
        return (self.ms[after - 1] - self.ms[after]) / rise
