"""What was asked for with `--method`, as methods in the order in which they apply, each with settings by layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from types import ModuleType

from shoestring.compress import METHODS, int8
from shoestring.compress.method import Setting
from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer
from shoestring.pipeline.original import Original
from shoestring.train.recipe import Recipe


@dataclass(frozen=True)
class Asked:
    """A method and the setting a user wrote for it."""

    method: ModuleType
    setting: Setting

    def settings(self, original: Original) -> dict[str, Setting]:
        """The setting of each layer of `original` that the method applies to. Raises BadInput."""
        layers: Sequence[Layer] = original.of_kinds(self.method.CARD.kinds)
        if self.shapes:
            layers = [layer for layer in layers if not layer.fixed]
        if not layers:
            kinds = ", ".join(self.method.CARD.kinds)
            raise BadInput(f"{original.name}: has no layer that {self.method.CARD.name} applies to ({kinds})")
        found: dict[str, Setting] = self.method.assign(layers, self.setting)
        return found

    @property
    def shapes(self) -> bool:
        """Whether it takes channels, kernels or weights away, and leaves bits to others."""
        return bool(self.method.CARD.prunes or self.method.CARD.reshapes)


def asked(original: Original, methods: tuple[str, ...], recipe: Recipe | None = None) -> tuple[Asked, ...]:
    """The methods, in the order of their cards (surgery before pruning before bits), the last one for bits: the one
    that was asked for, or `int8`, which without any method is what the planner may choose beside fp32. Raises BadInput,
    also where there is a `recipe` and nothing that could be trained by it."""
    found = [_one(text) for text in methods]
    for one, other in combinations((step.method.CARD for step in found), 2):
        if one is other or other.name in one.conflicts or one.name in other.conflicts:
            raise BadInput(f"--method: {one.name} and {other.name} cannot be combined; give one of them")
    bits = [one for one in found if not one.shapes]
    if len(bits) > 1:
        raise BadInput(f"--method: {' and '.join(one.method.CARD.name for one in bits)} both decide on bits; give one")
    ordered = sorted((one for one in found if one.shapes), key=lambda one: _place(one, found))
    ordered += bits or [_one(int8.CARD.name)]
    if recipe is not None and not any(one.method.CARD.trains or one.shapes for one in ordered):
        trained = ", ".join(n for n, m in METHODS.items() if m.CARD.trains or m.CARD.prunes or m.CARD.reshapes)
        name = ordered[-1].method.CARD.name
        raise BadInput(f"--epochs: {name} works after training; write --epochs 0, or --method one of {trained}")
    for one in ordered:
        one.settings(original)  # refuses now what would be refused later
    return tuple(ordered)


def _place(step: Asked, others: Sequence[Asked]) -> tuple[bool, int]:
    """Surgery comes before pruning, and behind the methods that a card names."""
    card = step.method.CARD
    return not card.reshapes, sum(other.method.CARD.name in card.after for other in others)


def _one(text: str) -> Asked:
    name, _, setting = text.partition(":")
    if name not in METHODS:
        raise BadInput(f"--method: unknown method {name!r}; known are {', '.join(METHODS)}")
    return Asked(METHODS[name], METHODS[name].parse(setting))
