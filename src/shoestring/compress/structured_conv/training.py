"""Training towards structure: a penalty draws weights into the span of boxes, then they are put there and stay."""

import copy
import math
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
_NOTES = 20  # of the residuals, in a run, and one at its start


class Structure(nn.Module):
    """A parametrization: the weight itself, or, once `on`, its projection. Gradients then lie in the span, which is to
    train the coordinates in an orthonormal basis: boxes overlap, and their own would learn slowly.

    `noted`: the residual of the weight at each twentieth of the run. `put`: when it was projected, as a share of the
    run, its residual then, and what that did to the outputs. NaN before. Buffers, so that checkpoints keep them."""

    noted: Tensor
    put: Tensor

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape, self.on = shape, False
        self.register_buffer("noted", torch.full((_NOTES + 1,), torch.nan))
        self.register_buffer("put", torch.full((3,), torch.nan))

    def forward(self, weight: Tensor) -> Tensor:
        return projected(weight, self.shape.projectors()) if self.on else weight


@dataclass
class Structuring(Applied):
    """`shapes`: by module path. `strength`: lambda, the factor of the penalty; 0 puts the weights into the span at
    once."""

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    strength: float = 1.0
    _inputs: Sequence[np.ndarray] = ()
    _done: float = 0.0
    _tick: int = -1

    @property
    def structured(self) -> bool:
        """Whether the weights are in the span by now."""
        return all(step.on for step in self._steps().values())

    @property
    def residuals(self) -> dict[float, dict[str, float]]:
        """Share of the run to the residual of each layer; the last one is that of when the weights were projected."""
        found: dict[float, dict[str, float]] = {}
        for path, step in self._steps().items():
            shares = [*(tick / _NOTES for tick in range(_NOTES + 1)), float(step.put[0])]
            for share, value in zip(shares, [*step.noted.tolist(), float(step.put[1])], strict=True):
                if not math.isnan(value):
                    found.setdefault(share, {})[path] = value
        return dict(sorted(found.items()))

    @property
    def moved(self) -> float | None:
        """Mean |difference| of the outputs on calibration inputs when the weights were projected, in units of their
        deviation; None before, and without inputs."""
        told = next((float(step.put[2]) for step in self._steps().values()), math.nan)
        return None if math.isnan(told) else told

    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        self._inputs = inputs
        self.on_step(0.0)
        if not self.strength:
            self.freeze()

    def penalty(self) -> Tensor | float:
        if self.structured:
            return 0.0
        return self.strength * loss.penalty(self.model, self.shapes)

    def on_step(self, progress: float) -> None:
        self._done, tick = progress, int(progress * _NOTES + 1e-9)
        if tick == self._tick or self.structured:
            return
        self._tick = tick
        steps = self._steps()
        for path, value in self._measured().items():
            steps[path].noted[tick] = value

    def freeze(self) -> None:
        """Puts the weights into the span, from where training goes on."""
        if self.structured:
            return
        steps, before = self._steps(), self._outputs()
        for path, value in self._measured().items():
            steps[path].put[:2] = torch.tensor([self._done, value])
        for step in steps.values():
            step.on = True
        after = self._outputs()
        if before is not None and after is not None:
            for step in steps.values():
                step.put[2] = (after - before).abs().mean() / before.std().clamp_min(1e-12)

    def status(self) -> str:
        known = self.residuals
        return f"residual of structure {_mean(known[max(known)]):.3f}" if known and not self.structured else ""

    def told(self) -> tuple[str, ...]:
        return told(self.residuals, self.moved)

    def log(self) -> Mapping[str, object]:
        told = {f"{share:.4f}": found for share, found in self.residuals.items()}
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
    def _measured(self) -> dict[str, float]:
        """Module path to the residual of its weight as it is."""
        weights = {path: checked(self.model.get_submodule(path)).weight for path in self.shapes}
        return {path: float(loss.residual(weights[path], shape)) for path, shape in self.shapes.items()}

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


def told(residuals: Mapping[float, Mapping[str, float]], moved: float | None) -> tuple[str, ...]:
    """What a reader must know of how it went: of `Structuring.residuals` and `Structuring.moved`."""
    if not residuals:
        return ()
    first, last = residuals[min(residuals)], residuals[max(residuals)]
    worst = max(last, key=last.__getitem__)
    drawn = f" after training drew it there from {_mean(first):.3f}" if len(residuals) > 1 else ""
    outputs = f", which moved the outputs by {100 * moved:.2g} % of their deviation" if moved else ""
    return (
        f"Structure: {len(last)} layers are a sum and a smaller layer. Of their weights the share of the "
        f"norm that is not structured was {_mean(last):.3f}{drawn} (most in {worst}: {last[worst]:.3f}) when it "
        f"was left out{outputs}.",
    )


def _mean(residuals: Mapping[str, float]) -> float:
    return sum(residuals.values()) / max(len(residuals), 1)
