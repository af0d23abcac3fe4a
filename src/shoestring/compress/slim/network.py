"""The large network in training, and what it brings its smaller ones to learn."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrize

from shoestring.compress.method import Applied
from shoestring.compress.slim.space import Shape, Space
from shoestring.compress.slim.views import MULTIPLE, View, Views, is_cloud, sides, twin
from shoestring.graph.settle import batches, norms_of, settle

DRAWN = 2  # networks a step, between the largest and the smallest


class Seen(NamedTuple):
    """Of a step: `inputs`, the large network's `outputs` (detached), and the `weights` with which it computed them."""

    inputs: Tensor
    outputs: Tensor
    weights: Mapping[str, Tensor]


class Slim(nn.Module):
    """Runs the large network, [B, ...] in, its outputs out; in training it remembers for `Slimming.penalty` with what
    weights. `names`: of its parameters without what methods put on them. `own`: what smaller networks have for
    themselves, one list each."""

    def __init__(self, gm: nn.Module, names: Sequence[str]):
        super().__init__()
        self.gm, self.names = gm, tuple(names)
        self.own = nn.ModuleList()
        self.seen: Seen | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.gm(x)
        with parametrize.cached():  # masks and grids are computed once a step, for all networks
            outputs: Tensor = self.gm(x)
            self.seen = Seen(x, outputs.detach(), self.weights())
        return outputs

    def weights(self) -> dict[str, Tensor]:
        """Parameters by name, as methods leave them: masked, on their grids."""
        found = {}
        for name in self.names:
            path, _, attribute = name.rpartition(".")
            found[name] = getattr(self.gm.get_submodule(path), attribute)
        return found


@dataclass
class Slimming(Applied):
    """`views`: the smaller networks. Each step trains the largest on its own loss; the smallest and two between on what
    the largest says (sandwich rule and in-place distillation: arXiv 1903.05134, sections 3.2 and 3.3). `beside`: a
    method at work on the large network, whose weights the smaller ones have as it leaves them. `ready`: they were
    trained before, so that all of them are from the start."""

    views: Views = field(kw_only=True)
    beside: Applied = field(kw_only=True)
    ready: bool = False
    _space: Space = field(default_factory=Space, init=False)
    _within: dict[Shape, Applied] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._open(0.0)
        self.precisions, slim = self.beside.precisions, self._slim
        for shape in self.views.space:
            if shape == self.views.space.largest:
                continue
            view = self.views.at(shape)
            small = twin(view.gm)  # parameters are filled in whenever it runs
            if (found := self.beside.within(small, view.take)) is None:
                break
            self._within[shape] = found
            known = dict(view.gm.named_modules())
            slim.own.append(nn.ModuleList(m for path, m in small.named_children() if path not in known))

    @torch.no_grad()
    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        """Starts what smaller networks have for themselves from what each does in floats, then the method beside it."""
        weights = self._slim.weights()
        for shape, small in self._within.items():
            given = self._resized(inputs, shape)
            assert isinstance(small.model, fx.GraphModule), "made of a view"
            _settled(small.model, self.views.at(shape), weights, given)
            small.settle(given)
        self.beside.settle(inputs)

    def on_step(self, progress: float) -> None:
        self._open(progress)
        self.beside.on_step(progress)

    def _open(self, progress: float) -> None:
        self._space = self.views.space if self.ready else self.views.space.opened(progress)

    def penalty(self) -> Tensor | float:
        """The sum of their losses: the divergence of each from the largest, whose outputs are taken as they are; and
        what the method beside it adds."""
        slim, theirs = self._slim, self.beside.penalty()
        if slim.seen is None:
            return theirs
        seen, slim.seen = slim.seen, None
        space = self._space
        drawn = [space.drawn(lambda n: int(torch.randint(n, ()))) for _ in range(DRAWN)]
        shapes = [shape for shape in dict.fromkeys([space.smallest, *drawn]) if shape != space.largest]
        losses = [divergence(self._run(shape, seen), seen.outputs) for shape in shapes]
        if own := [value.flatten() for value in slim.own.parameters() if value.requires_grad]:
            losses.append(0 * torch.cat(own).sum())  # processes that draw other networks average gradients of all
        return torch.stack(losses).sum() + theirs if losses else theirs

    def _run(self, shape: Shape, seen: Seen) -> Tensor:
        view, x = self.views.at(shape), resized(seen.inputs, self.views.shape, shape.side)
        small = (self._within[shape].model if shape in self._within else view.gm).to(x.device).train()
        outputs: Tensor = functional_call(small, view.weights(seen.weights), (x,))
        return outputs

    def freeze(self) -> None:
        for applied in (self.beside, *self._within.values()):
            applied.freeze()

    def status(self) -> str:
        return self.beside.status()

    def undecayed(self) -> frozenset[str]:
        return frozenset(f"gm.{name}" for name in self.beside.undecayed())

    def bake(self) -> fx.GraphModule:
        """The large network, plain."""
        baked = copy.deepcopy(self.beside.bake()).eval()
        assert isinstance(baked, fx.GraphModule), "methods are applied to captured models"
        return baked

    @torch.no_grad()
    def at(self, shape: Shape, inputs: Sequence[np.ndarray]) -> Applied:
        """A network by itself, ready to be baked: with the weights of the large one as the method beside it left them,
        its batch norms with the statistics of `inputs` (float32 [1, ...] each, at full size; arXiv 1903.05134, section
        3.4), in eval mode. Of those with something of their own, only the one that was asked for last is as it says."""
        view, weights, given = self.views.at(shape), self._slim.weights(), self._resized(inputs, shape)
        if shape in self._within:
            found = self._within[shape]
        elif self._within:  # the largest
            settle(self.beside.model, [torch.from_numpy(x) for x in batches(given)], norms_of(self.beside.model))
            return self.beside
        else:
            found = Applied(copy.deepcopy(view.gm))
        assert isinstance(found.model, fx.GraphModule), "made of a view"
        found.model.to(next(iter(weights.values())).device)  # training left it where that was
        for name, own in self.views.gm.named_parameters():
            if name in view.parts:
                found.model.get_parameter(name).requires_grad_(own.requires_grad)
        _settled(found.model, view, weights, given)
        return found

    def _resized(self, inputs: Sequence[np.ndarray], shape: Shape) -> list[np.ndarray]:
        if shape.side == 1:
            return list(inputs)
        return [resized(torch.from_numpy(x), self.views.shape, shape.side).numpy() for x in inputs]

    @property
    def _slim(self) -> Slim:
        assert isinstance(self.model, Slim), "`beside` made it"
        return self.model


def apply(gm: fx.GraphModule, space: Space, multiple: int = MULTIPLE) -> Slimming:
    """`gm` (captured, batch norms in place) made ready to train. `multiple`: of widths. Raises BadInput where nothing
    can be made smaller."""
    views = Views(gm, space, multiple)
    return beside(views, Applied(views.gm))


def beside(views: Views, method: Applied, ready: bool = False) -> Slimming:
    """`method`, which was applied to `views.gm` or to a copy of it, and smaller networks together. `ready`: these were
    trained before."""
    names = [name for name, _ in views.gm.named_parameters()]
    return Slimming(Slim(method.model, names), views=views, beside=method, ready=ready)


def divergence(outputs: Tensor, target: Tensor) -> Tensor:
    """KL(target || outputs) of the soft maxima over axis 1, mean over all else."""
    expected, found = functional.log_softmax(target, 1), functional.log_softmax(outputs, 1)
    return (expected.exp() * (expected - found)).sum(1).mean()


def resized(x: Tensor, shape: tuple[int, ...], side: float) -> Tensor:
    """Inputs [B, C, H, W] at a share of their size, or so many of the points of [B, N, 3]: one from the middle of each
    equal part of the rows, which lie along a curve through the cloud (`deploy.cloud_spec.ordered`). `shape`: of the
    full one."""
    target = sides(shape, side)
    if target == tuple(x.shape[1:]):
        return x
    if is_cloud(shape):
        places = (torch.arange(target[0], dtype=torch.float64) + 0.5) * (x.shape[1] / target[0])
        return x[:, places.long().to(x.device)]
    return functional.interpolate(x, target[1:], mode="bilinear", antialias=True, align_corners=False)


def plain(views: Views, shape: Shape, inputs: Sequence[np.ndarray]) -> fx.GraphModule:
    """A network by itself with the weights of `views.gm`: see `Slimming.at`."""
    model = beside(views, Applied(views.gm)).at(shape, inputs).model
    assert isinstance(model, fx.GraphModule), "made of a view"
    return model


def _settled(small: fx.GraphModule, view: View, weights: Mapping[str, Tensor], inputs: Sequence[np.ndarray]) -> None:
    """Gives `small` its part of the weights and the statistics of inputs [1, ...] of its size, in place."""
    for name, value in view.weights(weights).items():
        small.get_parameter(name).copy_(value)
    settle(small, list(_tensors(inputs)), norms_of(small))


def _tensors(inputs: Sequence[np.ndarray]) -> Iterator[Tensor]:
    return (torch.from_numpy(batch) for batch in batches(inputs))
