"""Elastic networks: one trained to work at many sizes, and what each of its smaller ones keeps and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from onnx import ModelProto
from torch import fx, nn

from shoestring.compress.slim.network import resized
from shoestring.compress.slim.space import Shape
from shoestring.compress.slim.views import sides
from shoestring.core.grid import Grid
from shoestring.core.quality import distance
from shoestring.core.rungs import pareto, rungs
from shoestring.deploy.export import export
from shoestring.deploy.learned import realise
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.graph.settle import batches
from shoestring.pipeline.drafts import draft, limit_ms, unmet
from shoestring.pipeline.elastic_training import Elastic
from shoestring.pipeline.original import Original
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.siblings import Siblings
from shoestring.pipeline.stopwatch import fastest, milliseconds

_SECONDS = 0.25  # of timing a candidate


@dataclass(frozen=True)
class Learnt:
    """A network whose grids were learned: its `floats`, activations quantised, and the `grids` of its weights."""

    floats: ModelProto
    grids: Mapping[str, Grid]

    def build(self, most: Mapping[str, int] | None = None) -> ModelProto:
        """In the normal form. `most`: see `deploy.learned.realise`."""
        return realise(self.floats, self.grids, most)


@dataclass(frozen=True)
class Candidate:
    """One network of the space: `kept`, per cent of the original's outputs on calibration inputs, and the median `ms`
    of its 8-bit form. `learnt`: where its grids were learned; `network.graph` is then the form that is shipped."""

    shape: Shape
    network: Original
    kept: float
    ms: float = 0.0
    learnt: Learnt | None = None


def candidates(
    original: Original, elastic: Elastic, samples: Samples, request: Request, report: Progress
) -> tuple[list[Candidate], str]:
    """Every network of the space, the largest first, and the runtime on which they were timed, in turns."""
    views, found = elastic.slimming.views, list[Candidate]()
    assert original.model is not None, "it was trained"
    expected = _outputs(original.model, batches(samples.calibration))
    shapes, siblings = list(views.space), Siblings()
    for index, shape in enumerate(shapes):
        report("looking at smaller networks", index / len(shapes))
        found.append(_candidate(original, elastic, shape, samples, expected, siblings))
    report("looking at smaller networks", 1.0)
    drafts = {str(one.shape): _draft(one) for one in found}
    runtime = request.runtime or fastest(drafts[str(found[0].shape)], request.threads)
    graphs = {name: (graph, runtime) for name, graph in drafts.items()}
    seconds = max(3.0, _SECONDS * len(graphs))
    times = milliseconds(graphs, request.threads, seconds, lambda share: report("timing smaller networks", share))
    return [replace(one, ms=times[str(one.shape)]) for one in found], runtime


def _candidate(
    original: Original,
    elastic: Elastic,
    shape: Shape,
    samples: Samples,
    expected: np.ndarray,
    siblings: Siblings,
) -> Candidate:
    views = elastic.slimming.views
    small, size = elastic.slimming.at(shape, samples.calibration), sides(views.shape, shape.side)
    given = [resized(torch.from_numpy(x), views.shape, shape.side).numpy() for x in batches(samples.calibration)]
    kept = 100 * (1 - float(distance(_outputs(small.model, given), expected)[1].mean()))
    model, own = small.bake(), replace(original, input=size)
    assert isinstance(model, fx.GraphModule), "a network of the space"
    if not elastic.bits:
        # All of them are held until one is chosen: without their models.
        return Candidate(shape, replace(siblings.remade(own, model), model=None), kept)
    learnt = Learnt(export(model, size), dict(small.grids))
    layers = inventory(fold(views.at(shape).gm), size)
    return Candidate(shape, replace(own, model=None, graph=learnt.build(), layers=layers), kept, learnt=learnt)


def choose(found: Sequence[Candidate], original: Original, request: Request, runtime: str) -> list[Candidate]:
    """The points, cheapest first. The richest takes inputs of full size, so that it can be compared with the original;
    a limit on latency is what the richest may take. Raises NotMet where none is within it."""
    most = limit_ms(request, original, lambda: _draft(found[0]), runtime)
    full = [one for one in found if one.network.input == original.input]
    if not (within := [one for one in full if one.ms <= most]):
        raise unmet(request, min(one.ms for one in full))
    top = within[pareto([one.ms for one in within], [one.kept for one in within])[-1]]
    ordered = [*(one for one in found if one.ms < top.ms and one.kept < top.kept), top]
    picked = rungs([one.ms for one in ordered], [one.kept for one in ordered], request.ladder)
    return [ordered[index] for index in picked]


def _draft(one: Candidate) -> ModelProto:
    """As it is where its grids were learned."""
    return draft(one.network) if one.learnt is None else one.network.graph


@torch.no_grad()
def _outputs(model: nn.Module, given: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([model(torch.from_numpy(x)).numpy() for x in given])
