"""Elastic networks: one trained to work at many sizes, and what each of its smaller ones keeps and costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from shoestring.compress import int8
from shoestring.compress.slim.network import Slimming, apply, plain, resized
from shoestring.compress.slim.space import Shape, parse
from shoestring.compress.slim.views import sides
from shoestring.core.errors import BadInput, NotMet
from shoestring.core.quality import distance
from shoestring.core.rungs import pareto, rungs
from shoestring.graph.settle import batches
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import against, fastest, milliseconds

NAME = "slim"  # of its folder of checkpoints
_SECONDS = 0.25  # of timing a candidate


@dataclass(frozen=True)
class Candidate:
    """One network of the space: `kept`, per cent of the original's outputs on calibration inputs, and the median `ms`
    of its 8-bit form."""

    shape: Shape
    network: Original
    kept: float
    ms: float = 0.0


def trained(original: Original, samples: Samples, request: Request, report: Progress) -> Slimming | None:
    """The elastic network, trained by the recipe; without one, as it is cut out of the original. None in a process that
    only helped to train. Raises BadInput."""
    if original.model is None:
        raise BadInput(f"{original.name}: --ladder works on torch modules; give the torch model as module:factory")
    space = parse(request.slim)
    if samples.resized is None and len(space.side) > 1:
        if "r=" in request.slim:
            raise BadInput("slim: these inputs cannot be made smaller; leave r= out")
        space = replace(space, side=space.side[:1])
    slimming = apply(original.model, space)
    if request.recipe is None:
        return slimming
    place = Place(request.checkpoints / NAME, {NAME: str(slimming.views.space)})
    # A run is known by what it came from: what is computed here may differ in a last bit when it goes on.
    leads = follow(original, original.model, slimming, samples, request.recipe, place, report)
    return slimming if leads else None


def candidates(
    original: Original, slimming: Slimming, samples: Samples, request: Request, report: Progress
) -> tuple[list[Candidate], str]:
    """Every network of the space, the largest first, and the runtime on which they were timed, in turns."""
    views, found = slimming.views, list[Candidate]()
    assert original.model is not None, "it was trained"
    expected = _outputs(original.model, batches(samples.calibration))
    shapes = list(views.space)
    for index, shape in enumerate(shapes):
        report("looking at smaller networks", index / len(shapes))
        small = plain(views, shape, samples.calibration)
        given = [resized(torch.from_numpy(x), views.shape, shape.side).numpy() for x in batches(samples.calibration)]
        kept = 100 * (1 - float(distance(_outputs(small, given), expected)[1].mean()))
        network = remade(replace(original, input=sides(views.shape, shape.side)), small)
        found.append(Candidate(shape, network, kept))
    report("looking at smaller networks", 1.0)
    drafts = {str(one.shape): _draft(one.network) for one in found}
    runtime = request.runtime or fastest(drafts[str(found[0].shape)], request.threads)
    graphs = {name: (graph, runtime) for name, graph in drafts.items()}
    seconds = max(3.0, _SECONDS * len(graphs))
    times = milliseconds(graphs, request.threads, seconds, lambda share: report("timing smaller networks", share))
    return [replace(one, ms=times[str(one.shape)]) for one in found], runtime


def choose(found: Sequence[Candidate], original: Original, request: Request, runtime: str) -> list[Candidate]:
    """The points, cheapest first. The richest takes inputs of full size, so that it can be compared with the original;
    a limit on latency is what the richest may take. Raises NotMet where none is within it."""
    most = _limit(found[0], original, request, runtime)
    full = [one for one in found if one.network.input == original.input]
    if not (within := [one for one in full if one.ms <= most]):
        least = min(one.ms for one in full)
        limit = request.budget.get("latency")
        raise NotMet(f"budget: {limit} cannot be met by this ladder; latency<={least:.3g}ms would do")
    top = within[pareto([one.ms for one in within], [one.kept for one in within])[-1]]
    ordered = [*(one for one in found if one.ms < top.ms and one.kept < top.kept), top]
    picked = rungs([one.ms for one in ordered], [one.kept for one in ordered], request.ladder)
    return [ordered[index] for index in picked]


def _limit(largest: Candidate, original: Original, request: Request, runtime: str) -> float:
    limit = request.budget.get("latency")
    if limit is None:
        return np.inf
    if not limit.relative:
        return limit.value
    _, before = against({"largest": (_draft(largest.network), runtime)}, original.graph, request.threads)
    return limit.value * before


def _draft(network: Original) -> ModelProto:
    """In 8 bits, for its speed only."""
    precisions = int8.precisions(network.of_kinds(int8.CARD.kinds))
    return calibrate(network.graph, network.noise(), precisions).build()


@torch.no_grad()
def _outputs(model: nn.Module, given: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([model(torch.from_numpy(x)).numpy() for x in given])
