"""Sensitivity: what each way of making a layer cheaper does to the network's outputs, one layer at a time.

Measured after reconstruction: what is left of the layer is fitted to what the original writes there, and the rest of
the network runs with it on inputs that nothing was fitted to. The losses are squares of relative errors, which add up
over layers as those of small independent changes do. Kept in the user's cache layer by layer, so that a run that was
stopped goes on, and the next budget finds them there.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from shoestring.compress.reconstruct import rounding
from shoestring.compress.reconstruct.layer import coded, damping
from shoestring.compress.reconstruct.moments import Moments
from shoestring.compress.reconstruct.pruning import ways
from shoestring.compress.reconstruct.quadratic import Quadratic, refit
from shoestring.compress.structured_conv import Structured
from shoestring.compress.structured_conv.shape import Shape
from shoestring.core import cache, schema
from shoestring.core.grid import Grid
from shoestring.core.pattern import BlockPattern
from shoestring.core.quality import relative_error
from shoestring.deploy.grids import Stored, put, stored
from shoestring.deploy.walk import Walk
from shoestring.deploy.weights import with_weights
from shoestring.pipeline.post_training import EightBit
from shoestring.pipeline.reconstruct import batches, by_group, plain, taps_of

LEVELS = (15, 30, 50, 65, 80, 95)  # per cent of a layer's weights at which zeros are tried
JUDGED = 32  # inputs that losses are measured with, at most: time grows with them
FEWEST, ENOUGH = 16, 32  # inputs that a layer is fitted on, and positions of its outputs for each weight of a row
_VERSION = 2


@dataclass(frozen=True)
class Loss:
    """`value`: the squared relative error of the network's outputs, mean over inputs; `noise`: its standard error."""

    value: float
    noise: float = 0.0


@dataclass(frozen=True)
class Trial:
    """What is tried on a layer. `pattern`: zeros in it, at each of LEVELS; None for no zeros. `bits`: of weights, with
    activations in 8. `shapes`: what is left of its kernel."""

    pattern: BlockPattern | None = None
    bits: tuple[int, ...] = ()
    shapes: tuple[Structured, ...] = ()


@dataclass(frozen=True)
class Sensitivity:
    """Of one layer: per cent of zeros, bits, and the text of a shape, each to its loss."""

    zeros: Mapping[int, Loss]
    bits: Mapping[int, Loss]
    shapes: Mapping[str, Loss]

    @classmethod
    def of(cls, data: object) -> "Sensitivity":
        """From JSON, whose keys are text. Raises ValueError for anything else."""
        found = schema.read(data, cls, "sensitivity")
        zeros, bits = ({int(key): loss for key, loss in part.items()} for part in (found.zeros, found.bits))
        return cls(zeros, bits, found.shapes)


def sensitivities(
    network: EightBit,
    trials: Mapping[str, Trial],
    inputs: Sequence[np.ndarray],
    judged: Sequence[np.ndarray],
    report: Callable[[float], object] | None = None,
    around: ModelProto | None = None,
) -> dict[str, Sensitivity]:
    """Of the layers of `trials` that can be told by themselves, in graph order. `inputs` (float32 [1, ...] each) are
    fitted to, with `judged` the losses are measured. `around`: the float network with other weights; all other layers
    are as they are there, and a loss is what comes on top of what the layer as it was would do among them."""
    layers = stored(network.graph)
    names = [name for name in layers if name in trials and plain(layers[name])]
    told = hashlib.sha256(repr((_VERSION, network.rule, network.precisions, len(inputs))).encode())
    for graph in (network.graph, around or network.graph):
        told.update(graph.SerializeToString(deterministic=True))
    for seen in network.histograms.values():
        told.update(repr((seen.low, seen.high)).encode() + seen.counts.tobytes())
    for value in (*inputs, *judged):
        told.update(value.tobytes())
    bench, found = _Bench(network, inputs, judged, around), {}
    for index, name in enumerate(names):
        if report is not None:
            report(index / len(names))
        key = hashlib.sha256(repr((told.hexdigest(), name, trials[name])).encode()).hexdigest()[:32]
        try:
            found[name] = Sensitivity.of(cache.load("sensitivities", key))
        except ValueError:  # absent, or damaged
            found[name] = bench.measured(name, layers[name], trials[name])
            cache.store("sensitivities", key, asdict(found[name]))
    if report is not None:
        report(1.0)
    return found


def between(measured: Mapping[int, Loss], level: float) -> Loss:
    """At a share between those that were measured: on straight lines of the logarithm, rising; below the least of them
    it falls to 0 as squares do."""
    shares, losses = list(measured), list(measured.values())
    logs = np.log(np.maximum.accumulate([max(loss.value, 1e-12) for loss in losses]))
    below = min(1.0, level / shares[0]) ** 2
    noise = float(np.interp(level, shares, [loss.noise for loss in losses]))
    return Loss(float(np.exp(np.interp(level, shares, logs))) * below, noise * below)


class _Bench:
    """The walks along the network, and what they are measured with."""

    def __init__(
        self,
        network: EightBit,
        inputs: Sequence[np.ndarray],
        judged: Sequence[np.ndarray],
        around: ModelProto | None,
    ):
        self.network = network if around is None else replace(network, graph=around)
        self.graph = self.network.graph
        self.leader = self.follower = Walk(network.graph, inputs)
        if around is not None:
            self.follower = Walk(around, inputs)
        self.few = Walk(self.graph, judged)
        self.output = self.graph.graph.output[0].name
        self.expected = np.concatenate([value for (value,) in Walk(network.graph, judged).read([self.output])])
        self.damping = damping(len(inputs))
        self.apart = around is not None
        self.before: np.ndarray | None = None

    def measured(self, name: str, layer: Stored, trial: Trial) -> Sensitivity:
        for walk in {id(walk): walk for walk in (self.leader, self.follower, self.few)}.values():
            walk.go(name)
        quadratic = self._quadratic(layer)
        weight = by_group(layer.weight, layer)
        hessian, target = quadratic.damped(weight, self.damping)
        # What a whole network with other weights does besides is no matter of this layer's.
        self.before = self._squares(self._with(self.graph, name, layer, quadratic, target)) if self.apart else None
        return Sensitivity(
            self._zeros(name, layer, quadratic, hessian, target, trial.pattern) if trial.pattern else {},
            {bits: self._bits(name, quadratic, hessian, target, bits) for bits in trial.bits},
            {str(shape): self._shape(name, layer, quadratic, hessian, target, shape) for shape in trial.shapes},
        )

    def _quadratic(self, layer: Stored) -> Quadratic:
        """Of as many inputs as have enough positions: a few where maps are large, all where they are small."""
        positions = next(self.leader.first(1).read([layer.writes]))[0].size // len(layer.weight)
        needed = max(FEWEST, -(-ENOUGH * math.prod(layer.weight.shape[1:]) // positions))
        leader, follower = (walk.first(needed) for walk in (self.leader, self.follower))
        return Quadratic.of(Moments.of(batches(leader, layer, follower, layer)), layer.op != "MatMul")

    def _zeros(
        self, name: str, layer: Stored, quadratic: Quadratic, hessian: Tensor, target: Tensor, pattern: BlockPattern
    ) -> dict[int, Loss]:
        way = ways(hessian, target, taps_of(layer), pattern)
        found = {}
        for level in LEVELS:
            left = refit(hessian, target, way.keep(int(level * target.numel() / 100)))
            found[level] = self._loss(self._with(self.graph, name, layer, quadratic, left))
        return found

    def _bits(self, name: str, quadratic: Quadratic, hessian: Tensor, target: Tensor, bits: int) -> Loss:
        graph = self.network.build({name})
        layer = stored(graph)[name]
        assert layer.scales is not None, "built in 8 bits"
        codes, steps = (by_group(part, layer) for part in (layer.weight, layer.scales))
        if bits < 8:  # in 8 the nearest codes with a bias that suits them leave next to nothing to gain
            keep = target != 0
            codes, steps = coded(hessian, target, target, keep | True, rounding.Codes(bits))
        bias = quadratic.bias(codes * steps[:, :, None])
        grid = Grid(
            codes.reshape(layer.weight.shape).numpy().astype(np.int8),
            steps.flatten().numpy().astype(np.float32),
            bits,
        )
        put(graph, name, grid, bias.flatten().numpy())
        return self._loss(graph)

    def _shape(
        self, name: str, layer: Stored, quadratic: Quadratic, hessian: Tensor, target: Tensor, shape: Structured
    ) -> Loss:
        """The best weight of those that decompose exactly."""
        inputs = layer.weight.shape[1]
        basis = Shape.of(layer.weight.shape, shape.kept.channels(inputs), shape.kept.n).basis()
        inner = basis.mT @ hessian @ basis
        weight = torch.linalg.solve(inner, (target @ hessian @ basis).mT).mT @ basis.mT
        return self._loss(self._with(self.graph, name, layer, quadratic, weight))

    @staticmethod
    def _with(graph: ModelProto, name: str, layer: Stored, quadratic: Quadratic, weight: Tensor) -> ModelProto:
        values = weight.reshape(layer.weight.shape).numpy().astype(np.float32)
        biases = {} if layer.op == "MatMul" else {name: quadratic.bias(weight).flatten().numpy().astype(np.float32)}
        return with_weights(graph, {name: values}, biases)

    def _loss(self, graph: ModelProto) -> Loss:
        squares = self._squares(graph)
        if self.before is not None:
            squares = squares - self.before
        noise = float(squares.std(ddof=1)) / len(squares) ** 0.5 if len(squares) > 1 else 0.0
        return Loss(max(0.0, float(squares.mean())), noise)

    def _squares(self, graph: ModelProto) -> np.ndarray:
        """Of the relative error of the outputs, by input."""
        few = copy.copy(self.few)
        few.model = graph
        return np.square(relative_error(np.concatenate([value for (value,) in few.read([self.output])]), self.expected))
