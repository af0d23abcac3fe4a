"""The staircase: what layers of widths in between really cost on a device, and so which widths are worth having.

A kernel works on so many channels at a time; a width in between pays for those that it does not have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

MULTIPLES = (1, 2, 4, 8, 16, 32)
# Between the ends, odd ones, multiples of 2 and no more, of 4, of 8, of 16 and of 32.
WIDTHS = (32, 34, 36, 37, 40, 42, 44, 45, 48, 52, 56, 60, 64, 72, 80, 96)
NOISE = 0.02  # of a time: what widths may waste before they are snapped; medians are no surer than that


@dataclass(frozen=True)
class Staircase:
    """`ms`: kind to the lower quartile of one call at each of `widths`. `device`: its fingerprint."""

    device: str
    widths: tuple[int, ...]
    ms: Mapping[str, tuple[float, ...]]

    @property
    def multiples(self) -> dict[str, int]:
        """Kind to the multiple that widths of its layers are worth snapping to."""
        return {kind: worth(self.widths, times) for kind, times in self.ms.items()}

    @property
    def multiple(self) -> int:
        """The one for a network of all kinds: of their mean curve, each taken as a multiple of its first point."""
        shapes = [np.array(times) / times[0] for times in self.ms.values()]
        return worth(self.widths, tuple(np.mean(shapes, axis=0).tolist()))

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "multiples": self.multiples, "multiple": self.multiple}


def worth(widths: Sequence[int], ms: Sequence[float]) -> int:
    """The smallest of MULTIPLES whose widths lie on the lower envelope: where no mix of a narrower and a wider one has
    as many channels in less time. Their mean time over it may be NOISE more than that of the best multiple, since noise
    lifts all of them. `widths` rise; the first and the last say nothing."""
    lowest = envelope(widths, ms)
    over = {width: time / low - 1 for width, time, low in zip(widths, ms, lowest, strict=True)}
    average: dict[int, float] = {}
    for multiple in MULTIPLES:
        own = [over[width] for width in widths[1:-1] if width % multiple == 0]
        if own:
            average[multiple] = sum(own) / len(own)
    least = min(average.values())
    return next(multiple for multiple, mean in average.items() if mean <= least + NOISE)


def envelope(widths: Sequence[int], ms: Sequence[float]) -> list[float]:
    """The lower convex hull of the curve, at each width."""
    hull: list[tuple[int, float]] = []
    for width, time in zip(widths, ms, strict=True):
        while len(hull) > 1 and _above(hull[-1], hull[-2], (width, time)):
            hull.pop()
        hull.append((width, time))
    known, times = zip(*hull, strict=True)
    found: list[float] = np.interp(widths, known, times).tolist()
    return found


def _above(middle: tuple[int, float], left: tuple[int, float], right: tuple[int, float]) -> bool:
    share = (middle[0] - left[0]) / (right[0] - left[0])
    return middle[1] >= left[1] + share * (right[1] - left[1])
