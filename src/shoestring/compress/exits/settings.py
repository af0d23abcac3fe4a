"""Where a network gets its exits and what leaving early may lose, and how a user writes it down."""

from dataclasses import dataclass, replace

from shoestring.core.errors import BadInput

NAME = "exits"
MOST = 4  # exits: thresholds of all of them are searched together


@dataclass(frozen=True)
class Exits:
    """`count`: how many, spread evenly over the work; or `at`: names of the places. `lose`: points that leaving early
    may lose against the whole network."""

    count: int = 2
    at: tuple[str, ...] = ()
    lose: float = 0.5

    def __str__(self) -> str:
        where = f"at={','.join(self.at)}" if self.at else f"{self.count}"
        return f"{NAME}:{where}:lose={self.lose:g}"


def parse(text: str) -> Exits:
    """What follows `exits:`: a number of exits or `at=NAME,NAME`, and `lose=POINTS`, separated by `:`, each once. What
    is not said is as by default. Raises BadInput."""
    found, said = Exits(), set[str]()
    for word in filter(None, text.split(":")):
        name, equals, value = word.partition("=")
        kind = name if equals else "count"
        if kind in said or {kind, *said} >= {"count", "at"}:
            raise BadInput(f"exits: {text!r} says twice where; write exits:2 or exits:at=NAME,NAME")
        said.add(kind)
        if kind == "count":
            found = replace(found, count=_count(word))
        elif kind == "at":
            found = _at(found, value)
        elif kind == "lose":
            found = replace(found, lose=_points(value))
        else:
            raise BadInput(f"exits: cannot read {word!r}; write exits:2, exits:at=NAME,NAME or exits:2:lose=0.5")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise BadInput(f"exits: cannot read {text!r}; give 1 to {MOST} exits, for example exits:2")
    return int(text)


def _at(found: Exits, text: str) -> Exits:
    names = tuple(text.split(","))
    if not all(names) or len(set(names)) < len(names) or len(names) > MOST:
        raise BadInput(f"exits: at={text}: give 1 to {MOST} places, each once, such as at=blocks.1,blocks.3")
    return replace(found, count=len(names), at=names)


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise BadInput(f"exits: lose={text}: give points from 0 to 100, for example lose=0.5")
    return points
