"""Timeline: what happened frame by frame under a deadline, as plain data that a report draws."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.core.schema import read


@dataclass(frozen=True)
class Turn:
    """One frame: the point whose answer was handed out, the ms from the raw input to that, `missed` the deadline,
    `exited` early since the point was sure, `given_up` a richer one when time was up; seconds since the first frame;
    how many processes were `busy` beside it, where that is known."""

    point: int
    ms: float
    deadline_ms: float
    missed: bool
    exited: bool = False
    given_up: bool = False
    at_s: float = 0.0
    busy: int = 0


@dataclass(frozen=True)
class Summary:
    """Frames, the share that was late, mean quality of the points handed out (None where it is not known), how often
    the point changed, and the shares that ended early and that gave up a richer point."""

    frames: int
    missed: float
    quality: float | None
    changes: int
    exited: float
    given_up: float


@dataclass(frozen=True)
class Timeline:
    """`turns` in order of time, one at least; `points`: what each point is called; `quality`: of each, or nothing;
    `title`: the file."""

    title: str
    deadline_ms: float
    points: tuple[str, ...]
    turns: tuple[Turn, ...]
    quality: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Timeline":
        """Reads what `to_json` wrote. Raises BadInput on a missing or unknown field or another type."""
        try:
            return read(data, cls, "timeline")
        except ValueError as error:
            raise BadInput(f"{error}; write the file again with this version") from None


def summary(turns: Sequence[Turn], quality: Sequence[float] = (), warm_up: int = 0) -> Summary:
    """Of all frames but the first `warm_up`. Raises BadInput when none are left."""
    kept = turns[warm_up:]
    if not kept:
        raise BadInput(f"timeline: {len(turns)} frames with {warm_up} to warm up leave none; take more frames")

    def share(of: str) -> float:
        return sum(getattr(turn, of) for turn in kept) / len(kept)

    worth = sum(quality[turn.point] for turn in kept) / len(kept) if quality else None
    changes = sum(one.point != other.point for one, other in pairwise(kept))
    return Summary(len(kept), share("missed"), worth, changes, share("exited"), share("given_up"))
