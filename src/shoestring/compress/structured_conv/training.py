"""Training towards structure: a penalty draws weights into the span of boxes, then they are put there and stay."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from shoestring.compress.method import Applied
from shoestring.compress.structured_conv import loss
from shoestring.compress.structured_conv.shape import Shape, checked
from shoestring.compress.structured_conv.surgery import decomposed
from shoestring.compress.structured_conv.windows import projected
from shoestring.graph.parametrized import plain, transforms

_BATCH = 16  # inputs at once
_NOTES = 20  # of the residuals, in a run


class Structure(nn.Module):
    """A parametrization: the weight itself, or, once `on`, its projection. Gradients then lie in the span, which is to
    train the coordinates in an orthonormal basis: boxes overlap, and their own would learn slowly."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, self.on = shape, False

    def forward(self, weight: Tensor) -> Tensor:
        return projected(weight, self.shape.span()) if self.on else weight


@dataclass
class Structuring(Applied):
    """`shapes`: by module path. `strength`: lambda, the factor of the penalty; 0 puts the weights into the span at
    once. `residuals`: share of the run to the residual of each layer, the last one before the weights were projected.
    `moved`: mean |difference| of the outputs on calibration inputs when that was done, in units of their deviation."""

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    strength: float = 0.1
    residuals: dict[float, dict[str, float]] = field(default_factory=dict)
    moved: float | None = None
    _inputs: Sequence[np.ndarray] = ()
    _done: float = 0.0

    @property
    def structured(self) -> bool:
        """Whether the weights are in the span by now."""
        return all(step.on for step in self._steps().values())

    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        self._inputs = inputs
        self._note(0.0)
        if not self.strength:
            self.freeze()

    def penalty(self) -> Tensor | float:
        if self.structured:
            return 0.0
        return self.strength * loss.penalty(self.model, self.shapes)

    def on_step(self, progress: float) -> None:
        self._done = progress
        if not self.structured and progress - max(self.residuals, default=-1.0) >= 1 / _NOTES:
            self._note(progress)

    def freeze(self) -> None:
        """Puts the weights into the span, from where training goes on."""
        if self.structured:
            return
        self._note(self._done)
        before = self._outputs()
        for step in self._steps().values():
            step.on = True
        after = self._outputs()
        if before is not None and after is not None:
            self.moved = float((after - before).abs().mean() / before.std().clamp_min(1e-12))

    def status(self) -> str:
        if self.structured or not self.residuals:
            return ""
        last = self.residuals[max(self.residuals)]
        return f"residual of structure {_mean(last):.3f}"

    def told(self) -> tuple[str, ...]:
        if not self.shapes or not self.residuals:
            return ()
        first, last = self.residuals[min(self.residuals)], self.residuals[max(self.residuals)]
        worst = max(last, key=last.__getitem__)
        drawn = f" after training drew it there from {_mean(first):.3f}" if len(self.residuals) > 1 else ""
        moved = (
            "" if self.moved is None else f", which moved the outputs by {100 * self.moved:.2g} % of their deviation"
        )
        return (
            f"Structure: {len(self.shapes)} layers are a sum and a smaller layer. Of their weights the share of the "
            f"norm that is not structured was {_mean(last):.3f}{drawn} (most in {worst}: {last[worst]:.3f}) when it "
            f"was left out{moved}.",
        )

    def log(self) -> Mapping[str, object]:
        told = {f"{share:.4f}": found for share, found in sorted(self.residuals.items())}
        return {"lambda": self.strength, "residuals": told, "moved": self.moved}

    def bake(self) -> nn.Module:
        """The network with small layers behind sums, batch norms in place."""
        self.freeze()
        found = plain(self.model)
        assert isinstance(found, fx.GraphModule), "methods are applied to captured models"
        return decomposed(found, self.shapes)

    def _steps(self) -> dict[str, Structure]:
        found = {}
        for path in self.shapes:
            (found[path],) = (one for one in transforms(self.model.get_submodule(path)) if isinstance(one, Structure))
        return found

    @torch.no_grad()
    def _note(self, progress: float) -> None:
        found = {}
        for path, shape in self.shapes.items():
            found[path] = float(loss.residual(checked(self.model.get_submodule(path)).weight, shape))
        self.residuals[progress] = found

    @torch.no_grad()
    def _outputs(self) -> Tensor | None:
        """Of the calibration inputs, the network as it is deployed."""
        if not len(self._inputs):
            return None
        where = next(self.model.parameters()).device
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        parts = [np.concatenate(self._inputs[i : i + _BATCH]) for i in range(0, len(self._inputs), _BATCH)]
        found = torch.cat([self.model(torch.from_numpy(part).to(where)) for part in parts])
        for module, mode in modes.items():
            module.training = mode
        return found


def structuring(model: fx.GraphModule, shapes: Mapping[str, Shape], strength: float) -> Structuring:
    """A copy of `model` (captured) with the method at work on the layers of `shapes`, by module path."""
    model = copy.deepcopy(model)
    for path, shape in shapes.items():
        parametrize.register_parametrization(model.get_submodule(path), "weight", Structure(shape), unsafe=True)
    return Structuring(model, shapes=shapes, strength=strength)


def _mean(residuals: Mapping[str, float]) -> float:
    return sum(residuals.values()) / max(len(residuals), 1)
