"""`fit --ladder N`: an elastic network in one file with N operating points, which share their weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from onnx import ModelProto

from shoestring.compress import int8
from shoestring.compress.slim.network import Slimming, plain
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Ladder
from shoestring.core.receipt import Rung
from shoestring.deploy import parity, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.materialise import materialise
from shoestring.deploy.normal_form import require
from shoestring.deploy.sharing import Part, Shared, share, with_codes_of
from shoestring.pipeline.artifact import Story, contents, measured_points
from shoestring.pipeline.device import here
from shoestring.pipeline.elastic import Candidate, candidates, choose, trained
from shoestring.pipeline.fit import PARITY_INPUTS, Fitted, gated, require_possible
from shoestring.pipeline.judge import quality
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.pruning import multiplications
from shoestring.pipeline.receipt import Case, Progress, measure, peak, rung
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import forget
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import milliseconds

MOST = 16  # points of a file


@dataclass(frozen=True)
class Climbed(Fitted):
    """What `fit_ladder` hands back. `candidates`: all networks that were measured."""

    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class _Point:
    """A candidate in 8 bits. `parts`: layer to its part of the wide weight; `samples`: of its input size."""

    candidate: Candidate
    graph: ModelProto
    parts: Mapping[str, Part]
    samples: Samples


def fit_ladder(
    original: Original, samples: Samples, request: Request, progress: Progress | None = None
) -> Climbed | None:
    """Trains the elastic network, measures every smaller one in it, and writes the best `request.ladder` of them into
    one file. None in a process that only helped to train. Raises BadInput, and NotMet where nothing is within the
    budget or the runtime does not compute what was fitted."""
    report = progress or (lambda stage, share: None)
    if not 2 <= request.ladder <= MOST:
        raise BadInput(f"--ladder {request.ladder}: give 2 to {MOST} operating points")
    require_possible(original, request)
    slimming = trained(original, samples, request, report)
    if slimming is None:
        return None
    found, runtime = candidates(original, slimming, samples, request, report)
    chosen = choose(found, original, request, runtime)
    request = replace(request, runtime=runtime)
    wide, points = _points(original, slimming, samples, chosen, report)
    return _written(original, samples, request, wide, points, tuple(found), slimming, report)


def _points(
    original: Original, slimming: Slimming, samples: Samples, chosen: Sequence[Candidate], report: Progress
) -> tuple[ModelProto, list[_Point]]:
    """The largest network of the space in 8 bits, and the points, which have its codes."""
    views = slimming.views
    largest = remade(original, plain(views, views.space.largest, samples.calibration))
    wide = eight_bit(largest, samples).build()
    points = []
    for index, one in enumerate(chosen):
        report("calibrating points", index / len(chosen))
        own = samples
        if samples.resized is not None and one.network.input != original.input:
            own = samples.resized(one.network.input)
        parts = layer_parts(views.at(one.shape).parts)
        graph = eight_bit(one.network, own).build()
        graph = with_codes_of(wide, largest.graph, graph, one.network.graph, parts)
        points.append(_Point(one, graph, parts, own))
    report("calibrating points", 1.0)
    return wide, points


def layer_parts(parts: Mapping[str, object]) -> dict[str, Part]:
    """Layer to the part of its weight, from parts of parameters; without those that are no blocks."""
    weights = {name.removesuffix(".weight"): part for name, part in parts.items() if name.endswith(".weight")}
    return {name: part for name, part in weights.items() if isinstance(part, tuple) and len(part) > 1}


def _written(  # noqa: PLR0913 - the end of the flow, handed what the stages before made
    original: Original,
    samples: Samples,
    request: Request,
    wide: ModelProto,
    points: Sequence[_Point],
    found: tuple[Candidate, ...],
    slimming: Slimming,
    report: Progress,
) -> Climbed:
    """Through the gate, measured, written."""
    assert request.runtime is not None, "it was chosen"
    top, device = points[-1], here(request.runtime, request.threads)
    for index, point in enumerate(points):
        report("parity gate", index / len(points))
        require(point.graph)
        compared = parity.compare(
            point.graph, device.runtime, point.samples.calibration[:PARITY_INPUTS], device.threads
        )
        parity.gate(compared)
    report("parity gate", 1.0)
    shared = share(wide, [(point.graph, point.parts) for point in points])
    held = _contents(original, samples, request, slimming, points, shared)
    layers = [layer.name for layer in original.layers if layer.weight]
    case = Case(
        file=request.out.name,
        subject=top.graph,
        original=original.graph,
        int8=eight_bit(original, samples).build(),
        size=shoe.size(held),
        device=device,
        layers=[name for name in layers if name in {layer.name for layer in top.candidate.network.layers}],
        macs=(multiplications(original.layers, {}), multiplications(top.candidate.network.layers, {})),
        samples=samples,
        trained=original.trained,
        notes=_notes(request, points, found, shared),
    )
    budget = gated(request.budget, original, samples)
    receipt = measure(case, budget, request.batch, request.seconds, report)
    receipt = replace(receipt, ladder=_rungs(original, points, request, report))
    told = measured_points(held.points, receipt)
    shoe.write(request.out, replace(held, points=told, receipt=receipt))
    for written in told:
        trust(materialise(written, held.members))
    forget(request)
    picks = dict.fromkeys(layers, int8.CARD.name)
    return Climbed(request.out, receipt, picks, compared, candidates=found)


def _contents(
    original: Original,
    samples: Samples,
    request: Request,
    slimming: Slimming,
    points: Sequence[_Point],
    shared: Shared,
) -> shoe.Contents:
    story = Story(
        methods=dict.fromkeys((layer.name for layer in original.layers if layer.weight), str(slimming.views.space)),
        ranges="",
        budget=str(request.budget),
        seed=request.seed,
        data=samples.provenance or {},
        training=asdict(request.recipe) if request.recipe else {},
    )
    held = contents(original, points[-1].graph, story, request.preprocess, request.labels)
    members = {shoe.ORIGINAL: held.members[shoe.ORIGINAL], **shared.members}
    ladder: Ladder = shared.points
    return replace(held, points=ladder, members=members)


def _rungs(original: Original, points: Sequence[_Point], request: Request, report: Progress) -> tuple[Rung, ...]:
    """The points timed in turns and judged on the same inputs, each at its own size."""
    assert request.runtime is not None, "it was chosen"
    runtime, threads = request.runtime, request.threads
    graphs = {str(index): (point.graph, runtime) for index, point in enumerate(points)}
    times = milliseconds(graphs, threads, request.seconds / 2, lambda share: report("timing points", share))
    inputs = points[-1].samples.judgement
    theirs = outputs(original.graph, "onnxruntime", inputs, threads) if original.trained and len(inputs) else None
    found = []
    for index, point in enumerate(points):
        report("judging points", index / len(points))
        judged = None
        if theirs is not None:
            ours = outputs(point.graph, runtime, point.samples.judgement, threads)
            judged = quality(ours, theirs, point.samples)
        name, memory = str(point.candidate.shape), peak(point.graph, runtime, threads)
        found.append(rung(name, times[str(index)], judged, memory))
    report("judging points", 1.0)
    return tuple(found)


def _notes(request: Request, points: Sequence[_Point], found: Sequence[Candidate], shared: Shared) -> tuple[str, ...]:
    epochs = f"Trained for {request.recipe.epochs:g} epochs" if request.recipe else "No training was done"
    alone = f" {shared.own:,} bytes of weights could not be shared." if shared.own else ""
    return (
        f"{epochs}: one elastic network, of whose {len(found)} sizes {len(points)} are operating points of this file, "
        f"with one set of 8-bit weights.{alone} Without a deadline the richest runs; the budget is about it.",
    )
