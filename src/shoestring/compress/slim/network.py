"""The large network in training, and what it brings its smaller ones to learn."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional

from shoestring.compress.method import Applied
from shoestring.compress.slim.space import Shape, Space
from shoestring.compress.slim.views import Views, sides
from shoestring.graph.settle import batches, norms_of, settle

DRAWN = 2  # networks a step, between the largest and the smallest


class Slim(nn.Module):
    """Runs the large network, [B, ...] in, its outputs out; in training it remembers both for `Slimming.penalty`."""

    def __init__(self, gm: fx.GraphModule):
        super().__init__()
        self.gm = gm
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.gm(x)
        if self.training:
            self.seen = x, outputs.detach()
        return outputs


@dataclass
class Slimming(Applied):
    """`views`: the smaller networks. Each step trains the largest on its own loss; the smallest and two between on what
    the largest says (sandwich rule and in-place distillation: arXiv 1903.05134, sections 3.2 and 3.3)."""

    views: Views = field(kw_only=True)
    _space: Space = field(default_factory=Space, init=False)

    def __post_init__(self) -> None:
        self._space = self.views.space.opened(0.0)

    def on_step(self, progress: float) -> None:
        self._space = self.views.space.opened(progress)

    def penalty(self) -> Tensor | float:
        """The sum of their losses: the divergence of each from the largest, whose outputs are taken as they are."""
        slim = self.model
        assert isinstance(slim, Slim), "`apply` made it"
        if slim.seen is None:
            return 0.0
        x, target = slim.seen
        slim.seen = None
        space = self._space
        drawn = [space.drawn(lambda n: int(torch.randint(n, ()))) for _ in range(DRAWN)]
        shapes = [shape for shape in dict.fromkeys([space.smallest, *drawn]) if shape != space.largest]
        large = dict(slim.gm.named_parameters())
        losses = [divergence(self._run(shape, large, x), target) for shape in shapes]
        return torch.stack(losses).sum() if losses else 0.0

    def _run(self, shape: Shape, large: Mapping[str, Tensor], x: Tensor) -> Tensor:
        view = self.views.at(shape)
        small = view.gm.to(x.device).train()
        outputs: Tensor = functional_call(small, view.weights(large), (resized(x, self.views.shape, shape.side),))
        return outputs

    def bake(self) -> nn.Module:
        """The large network."""
        assert isinstance(self.model, Slim), "`apply` made it"
        return copy.deepcopy(self.model.gm).eval()


def apply(gm: fx.GraphModule, space: Space) -> Slimming:
    """`gm` (captured, batch norms in place) made ready to train. Raises BadInput where nothing can be made smaller."""
    views = Views(gm, space)
    return Slimming(Slim(views.gm), views=views)


def divergence(outputs: Tensor, target: Tensor) -> Tensor:
    """KL(target || outputs) of the soft maxima over axis 1, mean over all else."""
    expected, found = functional.log_softmax(target, 1), functional.log_softmax(outputs, 1)
    return (expected.exp() * (expected - found)).sum(1).mean()


def resized(x: Tensor, shape: tuple[int, ...], side: float) -> Tensor:
    """Inputs [B, C, H, W] at a share of their size; `shape`: of the full one."""
    target = sides(shape, side)
    if target == tuple(x.shape[1:]):
        return x
    return functional.interpolate(x, target[1:], mode="bilinear", antialias=True, align_corners=False)


@torch.no_grad()
def plain(views: Views, shape: Shape, inputs: Sequence[np.ndarray]) -> fx.GraphModule:
    """A network of its own: the weights of the large one, its batch norms with the statistics of `inputs` (float32
    [1, ...] each, at full size; arXiv 1903.05134, section 3.4), in eval mode."""
    view = views.at(shape)
    large = dict(views.gm.named_parameters())
    small = copy.deepcopy(view.gm).to(next(iter(large.values())).device)  # training left it where that was
    for name, value in view.weights(large).items():
        small.get_parameter(name).copy_(value)
        small.get_parameter(name).requires_grad_(large[name].requires_grad)
    given = [resized(torch.from_numpy(batch), views.shape, shape.side) for batch in batches(inputs)]
    settle(small, given, norms_of(small))
    return small
