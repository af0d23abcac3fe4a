"""From a budget to a plan that holds as measured: plan, build, time, correct the sums of costs, and plan again.

Speed does not depend on what weights are, so this comes before any training or reconstruction, on a draft: zeros where
weights are smallest, ranges of noise. A step that does not pay is taken back here, before anybody waits for it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from onnx import ModelProto

from shoestring.compress import int8
from shoestring.compress.int8.method import RANGES
from shoestring.core.budget import Budget
from shoestring.core.proposal import Proposal
from shoestring.deploy import shoe
from shoestring.pipeline.artifact import Story, contents
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.menus import EIGHT, LOW
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import Ground, propose, steps
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.shaping import Shaping, shape
from shoestring.pipeline.stopwatch import against
from shoestring.pipeline.table import WORTH

REPLANS = 5
MARGIN = 0.98  # of a limit is planned for: a receipt wants the whole interval of a latency to hold
PACKED = 0.99  # of a limit on size is what a draft may take: what weights become may pack a little worse
_CLOSE = 0.97  # a plan that takes this much of what it may is not planned again
_SAME = 0.005  # a correction so small is none


@dataclass(frozen=True)
class Settled:
    """A plan whose draft was measured. `where`: with costs corrected by what was measured. `steps`: what makes it;
    `ms`: of its draft. `taken_back`: methods that did not pay, each to why."""

    where: Ground
    proposal: Proposal
    steps: tuple[Asked, ...]
    ms: float
    taken_back: tuple[tuple[str, str], ...] = ()


def settle(where: Ground, budget: Budget, samples: Samples, report: Progress, loss: float | None = None) -> Settled:
    """The plan of `propose` whose draft is measured to hold the limits on latency and size; where none does, the one
    that is nearest to them, which says so. `loss`: as `propose` takes it, and then nothing has to hold."""
    tried: list[Settled] = []
    holding: list[Settled] = []
    for number in range(REPLANS):
        report("planning", number / REPLANS)
        proposal = propose(where, budget, loss, MARGIN)
        runtime, own = proposal.device["runtime"], tuple(steps({layer.layer: layer.pick for layer in proposal.layers}))
        graph = draft(where.original, own, samples)
        times, original = against({"plan": (graph, runtime)}, where.original.graph, int(proposal.device["threads"]))
        size = where.grown + _size(where.original, graph, own)
        off = times["plan"] / proposal.totals["latency"], size / proposal.totals["size"]
        asked = where.limits(budget)
        where = replace(where, original_ms=original, beside=where.beside + size - proposal.totals["size"])
        where = where.scaled(runtime, "latency", off[0])
        measured = {**proposal.totals, "latency": times["plan"], "size": float(size)}
        limits = where.limits(budget)
        met = all(measured[name] <= limit * (PACKED if name == "size" else 1) for name, limit in limits.items())
        proposal = replace(proposal, totals=measured, original={"latency": original, "size": where.size})
        settled = Settled(where, proposal, own, times["plan"])
        tried.append(settled)
        if met:
            holding.append(settled)
        used = max((measured[name] / limit for name, limit in limits.items()), default=1.0)
        moved = (limits[name] / limit for name, limit in asked.items())  # where the original is timed anew
        if all(abs(factor - 1) < _SAME for factor in (*off, *moved)) or (met and used >= _CLOSE):
            break
        if loss is not None and not limits:
            break
    report("planning", 1.0)
    if holding:
        best = min(holding, key=lambda one: one.ms if loss is not None else one.proposal.totals["loss"])
        return replace(best, where=where, proposal=replace(best.proposal, budget=str(budget), met=True, reason=""))
    limits = where.limits(budget)
    nearest = min(tried, key=lambda one: max(one.proposal.totals[name] / limit for name, limit in limits.items()))
    reason = tried[-1].proposal.reason or "measured whole, no plan holds"
    return replace(
        nearest, where=where, proposal=replace(nearest.proposal, budget=str(budget), met=False, reason=reason)
    )


def paying(settled: Settled, samples: Samples, sized: bool) -> Settled:
    """`settled` without the methods that do not pay: without which the draft is as fast, and within a limit that held.
    Where the size is limited (`sized`), they pay in bytes. Timed in turns."""
    shaping = [step for step in settled.steps if step.shapes]
    if not shaping or sized:
        return settled
    original, device = settled.where.original, settled.proposal.device
    graphs = {"all": (draft(original, settled.steps, samples), device["runtime"])}
    for step in shaping:
        rest = [other for other in settled.steps if other is not step]
        graphs[step.method.CARD.name] = draft(original, rest, samples), device["runtime"]
    times, _ = against(graphs, original.graph, int(device["threads"]))
    most = settled.proposal.limits.get("latency", math.inf) if settled.proposal.met else math.inf
    idle = {name: ms for name, ms in times.items() if name != "all" and times["all"] > WORTH * ms and ms <= most}
    told = tuple((name, f"{times['all']:.3g} ms with it, {ms:.3g} ms without") for name, ms in idle.items())
    left = tuple(step for step in settled.steps if step.method.CARD.name not in idle)
    return replace(settled, steps=left, taken_back=told, proposal=_without(settled.proposal, idle)) if idle else settled


def _without(proposal: Proposal, idle: Mapping[str, float]) -> Proposal:
    """The plan with 8 bits in the place of methods that did not pay. `idle`: what it takes without each."""
    layers = tuple(
        replace(layer, pick=EIGHT, runner_up=layer.pick) if set(re.split(r":|, ", layer.pick)) & set(idle) else layer
        for layer in proposal.layers
    )
    picks = {layer.layer: layer.pick for layer in layers}
    totals = {
        "latency": min(idle.values()),
        "size": proposal.totals["size"] + sum(one.picked.size for one in layers) - _sizes(proposal),
        "loss": sum(layer.picked.loss for layer in layers),
    }
    methods = tuple(str(step.setting) for step in steps(picks))
    return replace(proposal, layers=layers, totals=totals, methods=methods)


def _sizes(proposal: Proposal) -> int:
    return sum(layer.picked.size for layer in proposal.layers)


def draft(original: Original, asked: Sequence[Asked], samples: Samples) -> ModelProto:
    """The network as `asked`, for its speed only: smallest weights at zero, ranges of noise."""
    *shaping, bits = asked
    noise = replace(samples, calibration=original.noise())
    how = Shaping(None, Path(), Path())
    made = shape(original, noise, shaping, more=False, how=how, report=lambda *_: None)
    assert made is not None, "one process, without training"
    left = made.original
    precisions = int8.precisions(left.of_kinds(int8.CARD.kinds), bits.setting)
    return calibrate(left.graph, noise.calibration, precisions).build() if precisions else left.graph


def _size(original: Original, graph: ModelProto, asked: Sequence[Asked]) -> int:
    layers = original.of_kinds(int8.CARD.kinds)
    low = {name: own.weights for name, own in int8.precisions(layers, asked[-1].setting).items() if own.weights < 8}
    return bare(original, graph, low)


def bare(original: Original, graph: ModelProto, bits: Mapping[str, int]) -> int:
    """Bytes of a file with `graph` that says nothing of itself. `bits`: of weights, by layer."""
    return shoe.size(contents(original, graph, Story({}, "", "", 0), None, (), bits))


def beside(original: Original, samples: Samples, request: Request) -> int:
    """Bytes that a file takes for what it says of itself: how to read inputs, labels, how it came to be."""
    methods = {layer.name: f"{int8.CARD.name}:w{LOW}" for layer in original.of_kinds(int8.CARD.kinds)}
    training = asdict(request.recipe) if request.recipe else {}
    told = Story(methods, RANGES[0], str(request.budget), request.seed, samples.provenance or {}, training)
    file = contents(original, original.graph, told, request.preprocess, request.labels)
    return shoe.size(file) - bare(original, original.graph, {})
