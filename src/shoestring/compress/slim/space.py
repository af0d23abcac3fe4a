"""The elastic space: which smaller networks a network holds, and how a user writes it down."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product, starmap
from typing import Any, TypeVar

from shoestring.core.errors import BadInput

NAME = "slim"
T = TypeVar("T")
_RANGE = re.compile(r"(\d*\.?\d+)\.\.(\d*\.?\d+)")
_WIDTHS = (0.25, 0.35, 0.5, 0.6, 0.75, 0.85, 1.0)  # that a range is filled with


@dataclass(frozen=True, order=True)
class Shape:
    """One network of the space. `width`: the share of channels that stays, of all that can go. `depth`: residual blocks
    left out at the end of each stage. `kernel`: rings cut off depthwise kernels. `side`: of the input as a share of the
    full one; of a point cloud the share of its points. `near`: the share of the neighbours that are looked at."""

    width: float = 1.0
    depth: int = 0
    kernel: int = 0
    side: float = 1.0
    near: float = 1.0

    def __str__(self) -> str:
        told = [f"w={self.width:g}", *[f"d={self.depth}"] * bool(self.depth), *[f"k={self.kernel}"] * bool(self.kernel)]
        told += [*[f"n={self.near:g}"] * (self.near != 1), *[f"r={self.side:g}"] * (self.side != 1)]
        return ":".join(told)


@dataclass(frozen=True)
class Space:
    """What each of the five may be, the full one first."""

    width: tuple[float, ...] = (1.0, 0.75, 0.5, 0.35, 0.25)
    depth: tuple[int, ...] = (0, 1)
    kernel: tuple[int, ...] = (0, 1)
    side: tuple[float, ...] = (1.0, 0.75)
    near: tuple[float, ...] = (1.0, 0.5)

    def __str__(self) -> str:
        parts = list(zip("wdkrn", self.axes, strict=True))
        if self.near == (1.0,):  # most networks know no neighbours
            parts.pop()
        return ":".join([NAME, *(f"{letter}={','.join(f'{v:g}' for v in values)}" for letter, values in parts)])

    @property
    def axes(self) -> tuple[tuple[Any, ...], ...]:
        """In the order of a `Shape`."""
        return self.width, self.depth, self.kernel, self.side, self.near

    @property
    def largest(self) -> Shape:
        return Shape(*(values[0] for values in self.axes))

    @property
    def smallest(self) -> Shape:
        return Shape(*(values[-1] for values in self.axes))

    @property
    def smallest_of_full_inputs(self) -> Shape:
        return replace(self.smallest, side=self.side[0])

    def __iter__(self) -> Iterator[Shape]:
        return starmap(Shape, product(*self.axes))

    def drawn(self, draw: Callable[[int], int]) -> Shape:
        """One at random; `draw(n)` gives a number below n."""
        return Shape(*(values[draw(len(values))] for values in self.axes))

    def opened(self, progress: float) -> "Space":
        """What is trained after this share of a run: input sizes, kernels and neighbours from the start, then depths,
        then widths, the mildest of each first (progressive shrinking: arXiv 1908.09791, section 3.3)."""
        depth, width = (min(1.0, max(0.0, (progress - begin) / _OPENS)) for begin in (0.0, _OPENS))
        return replace(self, depth=_part(self.depth, depth), width=_part(self.width, width))


_OPENS = 0.1  # of a run, for depths and then for widths


def _part(values: tuple[T, ...], share: float) -> tuple[T, ...]:
    return values[: 1 + round(share * (len(values) - 1))]


def parse(text: str) -> Space:
    """What follows `slim:`: words separated by `:`, each kind once. `w=0.25..1` or `w=1,0.5,0.25` (shares of channels),
    `d=2` (up to so many blocks of each stage left out), `k=1` (up to so many rings of kernels), `r=0.5,0.75,1` (input
    sizes as shares; of a point cloud, of its points), `n=0.5,1` (shares of neighbours). What is not said is as by
    default; `w=1`, `d=0` and such leave it alone. Raises BadInput."""
    found: dict[str, Any] = {}
    for word in filter(None, text.split(":")):
        letter, equals, values = word.partition("=")
        axis = {"w": "width", "d": "depth", "k": "kernel", "r": "side", "n": "near"}.get(letter)
        if axis is None or not equals:
            raise BadInput(f"slim: cannot read {word!r}; write w=0.25..1, d=1, k=1, r=0.75,1, n=0.5,1, colons between")
        if axis in found:
            raise BadInput(f"slim: {text!r} says {letter}= twice; write it once")
        found[axis] = _counts(letter, values) if axis in ("depth", "kernel") else _shares(letter, values)
    return replace(Space(), **found)


def _counts(letter: str, text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) < 32 for part in parts):
        raise BadInput(f"slim: {letter}={text}: give a whole number from 0 to 31, or several with commas")
    numbers = {int(part) for part in parts}
    return tuple(range(max(numbers) + 1)) if len(parts) == 1 else tuple(sorted({0, *numbers}))


def _shares(letter: str, text: str) -> tuple[float, ...]:
    between = _RANGE.fullmatch(text)
    try:
        if between:
            low, high = float(between[1]), float(between[2])
            numbers = {low, high, *(width for width in _WIDTHS if low < width < high)}
        else:
            numbers = {float(part) for part in text.split(",")}
    except ValueError:
        numbers = set()
    if not numbers or not all(0 < number <= 1 for number in numbers):
        raise BadInput(
            f"slim: {letter}={text}: give shares above 0 up to 1, such as {letter}=0.25..1 or {letter}=1,0.5"
        )
    return tuple(sorted({1.0, *numbers}, reverse=True))
