"""`fit --method exits:N`: a network that clear inputs leave early, in one file whose points are a chain."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from shoestring.compress import int8
from shoestring.compress.exits.heads import first_layer, head
from shoestring.compress.exits.network import Exiting, apply
from shoestring.compress.exits.settings import NAME, Exits, parse
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.core.receipt import Rung
from shoestring.deploy import shoe
from shoestring.deploy.chain import alone
from shoestring.deploy.check import trust
from shoestring.deploy.rewrite import lean
from shoestring.pipeline.artifact import Story, contents, measured_points
from shoestring.pipeline.chain import Chain, chain, check
from shoestring.pipeline.device import here
from shoestring.pipeline.fit import PARITY_INPUTS, Fitted, gated, require_possible
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.judge import quality
from shoestring.pipeline.leaving import Left, Rules, left, rules, told
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.pruning import multiplications
from shoestring.pipeline.receipt import Case, Progress, measure, peak, rung
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import forget
from shoestring.pipeline.samples import Samples


@dataclass(frozen=True)
class Exited(Fitted):
    """What `fit_exits` hands back. `rules`: when inputs leave; `left`: what that did to those that judge, None where
    none did."""

    rules: Rules | None = None
    left: Left | None = None


def fit_exits(
    original: Original, samples: Samples, request: Request, progress: Progress | None = None
) -> Exited | None:
    """Gives the network exits (`request.exits`), trains them by the recipe (without one they are fitted to the last
    layer's outputs), and writes one file with a point for each exit and one for the whole network, each of which goes
    on from the one before. None in a process that only helped to train. Raises BadInput, and NotMet when the runtime
    does not compute what was fitted."""
    report = progress or (lambda stage, share: None)
    exits = parse(request.exits)
    require_possible(original, request)
    exiting = trained(original, exits, samples, request, report)
    if exiting is None:
        return None
    report("calibrating", 0.0)
    network = remade(original, exiting.gm)
    whole = eight_bit(network, samples).build()
    report("calibrating", 1.0)
    heads = [first_layer(index) for index in range(len(exiting.places))]
    found = chain(whole, heads, request.runtime, request.threads, request.seconds / 2, report)
    return _written(original, network, samples, request, _Made(exits, exiting, found), report)


@dataclass(frozen=True)
class _Made:
    exits: Exits
    exiting: Exiting
    chain: Chain


def trained(original: Original, exits: Exits, samples: Samples, request: Request, report: Progress) -> Exiting | None:
    """The network with exits. None in a process that only helped to train. Raises BadInput."""
    if original.model is None:
        raise BadInput(f"{original.name}: exits need a torch module; give the torch model as module:factory")
    exiting = apply(original.model, exits)
    exiting.settle(samples.calibration)
    if request.recipe is not None:
        place = Place(request.checkpoints / NAME, {NAME: str(exits)})
        # A run is known by what it came from: what is computed here may differ in a last bit when it goes on.
        if not follow(original, original.model, exiting, samples, request.recipe, place, report):
            return None
    exiting.bake()
    return exiting


def _written(
    original: Original, network: Original, samples: Samples, request: Request, made: _Made, report: Progress
) -> Exited:
    """Through the gates, decided, measured, written."""
    found, where = made.chain, [place.name for place in made.exiting.places]
    compared = check(found, samples.calibration[:PARITY_INPUTS], report)
    report("choosing thresholds", 0.0)
    decided = rules(found, samples, made.exits.lose)
    judged = original.trained and len(samples.judgement) > 1
    report("choosing thresholds", 0.5)
    answers = found.answers(samples.judgement) if judged else None
    gone = None if answers is None else left(found, answers, decided, samples)
    report("choosing thresholds", 1.0)
    layers = [layer.name for layer in original.layers if layer.weight]
    picks = dict.fromkeys(layers, int8.CARD.name)
    own = {layer.name: str(made.exits) for layer in network.layers if layer.weight and layer.name not in picks}
    story = Story(
        methods={**picks, **own},
        ranges="",
        budget=str(request.budget),
        seed=request.seed,
        data=samples.provenance or {},
        training=asdict(request.recipe) if request.recipe else {},
    )
    held = _contents(contents(original, found.whole, story, request.preprocess, request.labels), found, decided)
    case = Case(
        file=request.out.name,
        subject=found.whole,
        original=original.graph,
        int8=eight_bit(original, samples).build(),
        size=shoe.size(held),
        device=here(found.runtime, request.threads),
        layers=layers,
        macs=(multiplications(original.layers, {}), multiplications(network.layers, {})),
        samples=samples,
        trained=original.trained,
        notes=(_how(request), *told(decided, gone, where, found.bare_ms)),
    )
    budget = gated(request.budget, original, samples)
    receipt = measure(case, budget, request.batch, request.seconds, report)
    names = [*(f"exit at {name}" for name in where), "all of it"]
    receipt = replace(receipt, ladder=_rungs(names, original, found, answers, samples, report))
    points = measured_points(held.points, receipt)
    if gone is not None:
        points = tuple(
            replace(point, measured={**point.measured, "share": share})
            for point, share in zip(points, gone.shares, strict=True)
        )
    shoe.write(request.out, replace(held, points=points, receipt=receipt))
    for stage in found.stages:
        trust(lean(stage))
    forget(request)
    return Exited(request.out, receipt, picks, compared, rules=decided, left=gone)


def _contents(held: shoe.Contents, found: Chain, decided: Rules) -> shoe.Contents:
    """With the stages in the place of the whole graph."""
    names = [*(f"{head(index)}.onnx" for index in range(len(found.stages) - 1)), "rest.onnx"]
    confidence = [*decided.confidence, {}]
    points = tuple(
        Point(onnx=name, after=index - 1 if index else None, confidence=confidence[index])
        for index, name in enumerate(names)
    )
    stages = {name: lean(stage) for name, stage in zip(names, found.stages, strict=True)}
    return replace(held, points=points, members={shoe.ORIGINAL: held.members[shoe.ORIGINAL], **stages})


def _rungs(
    names: Sequence[str],
    original: Original,
    found: Chain,
    answers: np.ndarray | None,
    samples: Samples,
    report: Progress,
) -> tuple[Rung, ...]:
    """Each exit as if all inputs left there, and the whole network."""
    theirs = None if answers is None else outputs(original.graph, "onnxruntime", samples.judgement, found.threads)
    rungs = []
    for index, name in enumerate(names):
        report("judging exits", index / len(names))
        judged = None if answers is None or theirs is None else quality(answers[index], theirs, samples)
        graph = alone(found.whole, (index + 1) % len(names))
        rungs.append(rung(name, found.ms[index], judged, peak(graph, found.runtime, found.threads)))
    report("judging exits", 1.0)
    return tuple(rungs)


def _how(request: Request) -> str:
    recipe = request.recipe
    done = (
        f"Trained for {recipe.epochs:g} epochs: exits learn" if recipe else "No training was done: exits are fitted to"
    )
    what = "What is timed, and what the budget is about, computes every exit and never leaves early."
    return f"{done} what the last layer says. {what}"
