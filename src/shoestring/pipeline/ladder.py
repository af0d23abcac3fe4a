"""`fit --ladder N`: an elastic network in one file with N operating points, which share their weights."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Ladder
from shoestring.core.receipt import Rung
from shoestring.deploy import parity, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.materialise import materialise
from shoestring.deploy.normal_form import require
from shoestring.deploy.sharing import Part, Shared, moved_up_by, share, with_codes_of
from shoestring.pipeline.artifact import Story, contents, measured_points
from shoestring.pipeline.device import here
from shoestring.pipeline.elastic import Candidate, candidates, choose
from shoestring.pipeline.elastic_training import Elastic, trained
from shoestring.pipeline.fit import PARITY_INPUTS, Fitted, gated, require_possible
from shoestring.pipeline.judge import quality
from shoestring.pipeline.ledger import brief
from shoestring.pipeline.notes import zeroed
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.pruning import multiplications, zeros
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
    elastic = trained(original, samples, request, report)
    if elastic is None:
        return None
    found, runtime = candidates(original, elastic, samples, request, report)
    chosen = choose(found, original, request, runtime)
    request = replace(request, runtime=runtime)
    points_of = _learned if elastic.bits else _calibrated
    made = points_of(original, elastic, samples, found[0], chosen, report)
    return _written(original, samples, request, _Made(elastic, *made, tuple(found)), report)


def _learned(
    original: Original,
    elastic: Elastic,
    samples: Samples,
    largest: Candidate,
    chosen: Sequence[Candidate],
    report: Progress,
) -> tuple[ModelProto, list[_Point]]:
    """The largest network of the space on its learned grids, and the points, whose codes are parts of its codes. They
    lie equally far up in their bytes, so that runtimes find them equal too."""
    report("sharing codes", 0.0)
    networks = [(one.learnt, one.network.graph) for one in (largest, *chosen) if one.learnt is not None]
    moved = [moved_up_by(graph, learnt.grids) for learnt, graph in networks]
    most = {name: min(one[name] for one in moved if name in one) for name in moved[0]}
    graphs = [learnt.build(most) for learnt, _ in networks]
    points = []
    for one, graph in zip(chosen, graphs[1:], strict=True):
        parts = layer_parts(elastic.slimming.views.at(one.shape).parts)
        points.append(_Point(one, graph, parts, _own_size(original, samples, one)))
    report("sharing codes", 1.0)
    return graphs[0], points


def _own_size(original: Original, samples: Samples, one: Candidate) -> Samples:
    if samples.resized is not None and one.network.input != original.input:
        return samples.resized(one.network.input)
    return samples


def _calibrated(
    original: Original,
    elastic: Elastic,
    samples: Samples,
    largest: Candidate,
    chosen: Sequence[Candidate],
    report: Progress,
) -> tuple[ModelProto, list[_Point]]:
    """The largest network of the space in 8 bits, and the points, which have its codes."""
    views = elastic.slimming.views
    wide = eight_bit(largest.network, samples).build()
    points = []
    for index, one in enumerate(chosen):
        report("calibrating points", index / len(chosen))
        own = _own_size(original, samples, one)
        parts = layer_parts(views.at(one.shape).parts)
        graph = eight_bit(one.network, own).build()
        graph = with_codes_of(wide, largest.network.graph, graph, one.network.graph, parts)
        points.append(_Point(one, graph, parts, own))
    report("calibrating points", 1.0)
    return wide, points


def layer_parts(parts: Mapping[str, object]) -> dict[str, Part]:
    """Layer to the part of its weight, from parts of parameters; without those that are no blocks."""
    weights = {name.removesuffix(".weight"): part for name, part in parts.items() if name.endswith(".weight")}
    return {name: part for name, part in weights.items() if isinstance(part, tuple) and len(part) > 1}


@dataclass(frozen=True)
class _Made:
    """`wide`: the largest network in 8 bits; `points`: cheapest first; `found`: all that were measured."""

    elastic: Elastic
    wide: ModelProto
    points: Sequence[_Point]
    found: tuple[Candidate, ...]

    @property
    def top(self) -> _Point:
        return self.points[-1]


def _written(original: Original, samples: Samples, request: Request, made: _Made, report: Progress) -> Climbed:
    """Through the gate, measured, written."""
    assert request.runtime is not None, "it was chosen"
    elastic, points, top, device = made.elastic, made.points, made.top, here(request.runtime, request.threads)
    for index, point in enumerate(points):
        report("parity gate", index / len(points))
        require(point.graph)
        compared = parity.compare(
            point.graph, device.runtime, point.samples.calibration[:PARITY_INPUTS], device.threads
        )
        parity.gate(compared)
    report("parity gate", 1.0)
    shared = share(made.wide, [(point.graph, point.parts) for point in points], elastic.widths)
    held = _contents(original, samples, request, made, shared)
    layers = [layer.name for layer in original.layers if layer.weight]
    empty = zeros(top.graph, elastic.pruned.settings) if elastic.pruned else {}
    dense = eight_bit(original, samples)
    case = Case(
        file=request.out.name,
        subject=top.graph,
        original=original.graph,
        int8=dense.build(),
        size=shoe.size(held),
        device=device,
        layers=[name for name in layers if name in {layer.name for layer in top.candidate.network.layers}],
        macs=(multiplications(original.layers, {}), multiplications(top.candidate.network.layers, empty)),
        samples=samples,
        trained=original.trained,
        notes=(*_notes(request, made, shared), *_zeroed(made, empty, device)),
    )
    budget = gated(request.budget, original, samples)
    receipt = measure(case, budget, request.batch, request.seconds, report)
    steps = ", ".join([*elastic.methods, *["trained"] * (request.recipe is not None)])
    way = brief(original, dense, (steps, top.graph), case.size, device, report)
    receipt = replace(receipt, ladder=_rungs(original, points, request, report), ledger=way)
    told = measured_points(held.points, receipt)
    shoe.write(request.out, replace(held, points=told, receipt=receipt))
    for written in told:
        trust(materialise(written, held.members))
    forget(request)
    picks = {name: str(elastic.bits.get(name, int8.CARD.name)) for name in layers}
    return Climbed(request.out, receipt, picks, compared, candidates=made.found)


def _contents(original: Original, samples: Samples, request: Request, made: _Made, shared: Shared) -> shoe.Contents:
    story = Story(
        methods={layer.name: made.elastic.written(layer.name) for layer in original.layers if layer.weight},
        ranges="",
        budget=str(request.budget),
        seed=request.seed,
        data=samples.provenance or {},
        training=asdict(request.recipe) if request.recipe else {},
    )
    held = contents(original, made.top.graph, story, request.preprocess, request.labels)
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


def _notes(request: Request, made: _Made, shared: Shared) -> tuple[str, ...]:
    epochs = f"Trained for {request.recipe.epochs:g} epochs" if request.recipe else "No training was done"
    alone = f" {shared.own:,} bytes of weights could not be shared." if shared.own else ""
    widths = made.elastic.widths
    told = ", ".join(f"{count} at {bits}" for bits, count in sorted(Counter(widths.values()).items()))
    what = f"one set of weights, learned by {made.elastic.methods[-1]}" if widths else "one set of 8-bit weights"
    notes = [
        f"{epochs}: one elastic network, of whose {len(made.found)} sizes {len(made.points)} are operating points of "
        f"this file, with {what}.{alone} Without a deadline the richest runs; the budget is about it."
    ]
    if widths:
        notes.append(
            f"Bits of weights: {told}, of {len(widths)} layers; the points have them in common. Grids of activations "
            "are each point's own. All is executed at 8 bits: fewer make the file smaller, not faster."
        )
    return tuple(notes)


def _zeroed(made: _Made, empty: Mapping[str, float], device: Device) -> tuple[str, ...]:
    """Of the richest point, and how much of it the others have."""
    pruned = made.elastic.pruned
    if pruned is None or not empty:
        return ()
    shares = (_share_of(point, zeros(point.graph, pruned.settings)) for point in made.points)
    told = ", ".join(f"{100 * share:.0f}" for share in shares)
    return (
        *zeroed(replace(pruned, original=made.top.candidate.network), empty, device),
        f"The zeros are of the largest network's weights, of which each point has a part; cheapest first, {told} % of "
        "what it has of the pruned layers.",
    )


def _share_of(point: _Point, empty: Mapping[str, float]) -> float:
    sizes = {layer.name: layer.weights for layer in point.candidate.network.layers if layer.name in empty}
    return sum(empty[name] * size for name, size in sizes.items()) / max(sum(sizes.values()), 1)
