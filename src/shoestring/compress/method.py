"""What every compression method is: a folder (a module) with the names of `Method`.

A newcomer's method needs a CARD, a way to read its settings, the settings that fit a layer, the form a layer takes,
its counts, and `apply`. Everything else (planning, training, export, parity, receipt) is done by the rooms above.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor, fx, nn

from shoestring.core.blocks import Blocks
from shoestring.core.cost import Cost
from shoestring.core.counts import Counts
from shoestring.core.device import Device
from shoestring.core.grid import Grid
from shoestring.core.layer import Layer
from shoestring.core.pattern import BlockPattern, Pattern
from shoestring.core.precision import Precision


@dataclass(frozen=True)
class Card:
    """What a method is. `kinds`: kinds of layer it applies to (core.layer). `after`: methods that must be applied
    before it when both are; `conflicts`: methods it cannot be combined with. `trains`: it learns something in training,
    and without a torch model it cannot be used, but where it `decomposes` and nothing is trained. `prunes`: it sets
    weights to zero and leaves their bits to others (`Pruning`). `reshapes`: layers have other shapes after it: it
    removes channels or, where it `decomposes`, puts several layers in the place of one. `legal`: what a user must know
    before shipping it."""

    name: str
    title: str
    paper: str
    kinds: tuple[str, ...]
    after: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    trains: bool = False
    prunes: bool = False
    reshapes: bool = False
    decomposes: bool = False
    legal: str = ""


class Setting(Protocol):
    """One way of applying a method to one layer: a frozen, hashable value; `str(setting)` is how a user writes it."""

    @property
    def method(self) -> str: ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Weight:
    """A folded weight as it is exported, [O, I, ...] (linear: out x in), I being the inputs of one of `groups`."""

    values: np.ndarray
    groups: int = 1


Take = Callable[[str, Tensor], Tensor]  # of what has the shape of a parameter by name, the part that a network has


@dataclass
class Applied:
    """A method at work on a model: what `train` receives as plain callbacks and `deploy` as precisions.

    `model` runs and trains. `precisions`: the bits the exporter must realise, per layer. `grids`: the weights as they
    were learned, per layer, once baked; a method that learns none leaves that to the exporter."""

    model: nn.Module
    precisions: Mapping[str, Precision] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)

    def price(self, costs: Mapping[str, Cost]) -> None:
        """Called once before `settle` with what zeros cost in each layer, where the method wants to know."""

    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        """Called once before training with calibration inputs, float32 [1, ...] each."""

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss of one step."""
        return 0.0

    def on_step(self, progress: float) -> None:
        """Called after every optimiser step with the share of training done, 0..1."""

    def freeze(self) -> None:
        """Fixes masks and grids; called once, before the last phase of training."""

    def zeros(self) -> dict[str, Tensor]:
        """Module path to what would stay of its weight if training stopped now (bool in its shape), of a method that
        prunes."""
        return {}

    def near(self) -> float | None:
        """The share of blocks near their threshold, of a method that learns thresholds: they learn from these."""
        return None

    def status(self) -> str:
        """Where it stands, in a few words for the line that shows progress."""
        return ""

    def told(self) -> tuple[str, ...]:
        """What a reader of the receipt must know of how it went, in sentences."""
        return ()

    def log(self) -> Mapping[str, object]:
        """What it wrote down on the way, as JSON; kept beside the file."""
        return {}

    def undecayed(self) -> frozenset[str]:
        """Names of parameters of `model` that weight decay must leave alone."""
        return frozenset()

    def within(self, smaller: fx.GraphModule, take: Take) -> "Applied | None":
        """The method at work on a network inside of this one, whose weights are parts of these as the method leaves
        them: with what networks do not share, such as grids of activations, in modules that it puts into `smaller`, in
        place. It is baked when `smaller` holds those weights. None when there is nothing of the kind."""
        del smaller, take
        return None

    def bake(self) -> nn.Module:
        """The plain module to export: parametrizations removed, values exactly as they were trained."""
        return self.model


class Method(Protocol):
    """A module in `compress/`."""

    CARD: Card

    def parse(self, text: str) -> Setting:
        """The setting a user wrote after `NAME:` (empty for the default). Raises BadInput."""
        ...

    def assign(self, layers: Sequence[Layer], setting: Setting) -> dict[str, Setting]:
        """The setting of each of `layers` (in execution order, all that the method applies to). Raises BadInput."""
        ...

    def options(self, layer: Layer, device: Device) -> tuple[Setting, ...]:
        """The settings worth considering for a layer on a device; none when the method does not apply."""
        ...

    def lower(self, module: nn.Module, setting: Setting) -> tuple[nn.Module, Precision]:
        """The form in which a layer is exported and timed."""
        ...

    def counts(self, layer: Layer, setting: Setting) -> Counts:
        """Size and operations of the layer under the setting."""
        ...

    def apply(self, model: nn.Module, settings: Mapping[str, Setting]) -> Applied:
        """Applies settings by layer name to a captured model. Warns NoEffectWarning when nothing changed."""
        ...


class Pruning(Method, Protocol):
    """A method whose CARD says that it prunes: after training its masks are fixed zeros, which other methods and the
    exporter leave as they are."""

    def keep(
        self,
        weights: Mapping[str, Weight],
        settings: Mapping[str, Setting],
        costs: Mapping[str, Cost] | None = None,
    ) -> dict[str, np.ndarray]:
        """Without training: layer to what stays of its weight, bool in its shape, for those of `weights` (by layer)
        that lose something. Warns NoEffectWarning when nothing goes."""
        ...

    def priced(self, settings: Mapping[str, Setting]) -> dict[str, BlockPattern]:
        """The layers whose zeros must be timed on the device first, and in which blocks."""
        ...

    def feature(self, setting: Setting) -> str:
        """The entry of the capability contract that says what a runtime does with the zeros."""
        ...


class OneShot(Pruning, Protocol):
    """One that can do so without training."""

    def shared(self, setting: Setting) -> Blocks | None:
        """What the layers with this setting lose together; None where each loses as much as it says."""
        ...

    def alone(self, setting: Setting, percent: float) -> Setting:
        """The setting of a layer whose share has been set, whatever the others lose."""
        ...

    def pattern(self, setting: Setting) -> Pattern:
        """Of the zeros."""
        ...

    def gather(
        self, model: fx.GraphModule, settings: Mapping[str, Setting]
    ) -> tuple[fx.GraphModule, dict[str, Setting]] | None:
        """A copy of `model` that computes the same with its channels in an order in which small blocks gather, and what
        is left to do; None where no layer asks for it."""
        ...
