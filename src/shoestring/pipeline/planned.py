"""Fits to a budget: plan, apply, train or reconstruct, measure, and plan again until every limit holds as measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.budget import Limit
from shoestring.core.errors import NotMet
from shoestring.core.proposal import Proposal
from shoestring.core.quality import relative_error
from shoestring.core.receipt import Quality
from shoestring.deploy.grids import stored
from shoestring.deploy.weights import with_weights
from shoestring.pipeline.asked import Asked, asked
from shoestring.pipeline.judge import quality
from shoestring.pipeline.making import Made, make
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import FIRST, Ground, around, ground
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import load, place, save
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import Settled, bare, beside, paying, settle
from shoestring.train.processes import join

TRIES = 4  # plans that are made and judged, where quality alone is limited
RESIZED = 2  # times that a plan is made anew because its file is too large
_LEARNED = "lsq+:w8a8"
_STEP = 3.0  # to the next one, until one holds and one does not


@dataclass(frozen=True)
class Planned:
    """What a plan became. `told`: what a reader must know of how it was found."""

    made: Made
    settled: Settled
    told: tuple[str, ...] = ()

    @property
    def proposal(self) -> Proposal:
        return self.settled.proposal


def plans(request: Request, original: Original) -> bool:
    """Whether there is anything to plan: limits that a plan can do something about, and no methods that were asked
    for."""
    limited = {limit.name for limit in request.budget.limits}
    return (
        not request.methods
        and request.start is None
        and bool(limited & {"latency", "size"} or _fastest(request, original))
    )


def planned(original: Original, samples: Samples, request: Request, report: Progress) -> Planned | None:
    """The plan for the budget, applied. Where latency is not limited but quality is, the fastest plan that loses no
    more. None in a process that only helped to train. Raises BadInput, and NotMet before any training when the limits
    are out of reach."""
    search = _Search(original, samples, request, report)
    limit = request.budget.get("quality")
    return search.within(limit) if limit is not None and _fastest(request, original) else search.least()


def _fastest(request: Request, original: Original) -> bool:
    limited = {limit.name for limit in request.budget.limits}
    return "quality" in limited and "latency" not in limited and original.trained


class _Search:
    def __init__(self, original: Original, samples: Samples, request: Request, report: Progress):
        self.original, self.samples, self.request, self.report = original, samples, request, report
        self.world = join()
        self.where: Ground | None = None
        self.number = 0
        if self.world.leader:
            network = eight_bit(original, samples)
            how = request.budget, request.runtime, request.threads, request.without
            self.told = beside(original, samples, request)
            self.where = replace(ground(original, network, samples, *how, report), grown=self.told)

    def least(self) -> Planned | None:
        """The least loss within the limits."""
        found = self.attempt(None)
        if found is None or self.request.recipe is not None:
            return found
        found = self.small_enough(found)
        if not self.request.reconstruct:
            return found
        for _ in range(self.request.rounds):
            again = self.around(found)
            if again is None or self.loss(again.made.subject) >= self.loss(found.made.subject):
                break
            found = again
        return found

    def small_enough(self, found: Planned) -> Planned:
        """`found`, or another plan where its file is larger than its draft was, and than it may be."""
        for _ in range(RESIZED):
            assert self.where is not None, "one process, without training"
            made, sizes = found.made, self.where.limits(self.request.budget)
            bits = made.network.bits if made.learned is None else made.learned.bits
            size = self.told + bare(self.original, made.subject, bits)
            if size <= sizes.get("size", np.inf) or not found.proposal.met:
                break
            grown = size - found.proposal.totals["size"]
            self.where = replace(self.where, grown=self.where.grown + grown)
            found = self.attempt(None) or found
        return found

    def within(self, limit: Limit) -> Planned | None:
        """The fastest plan that is judged to hold the limit on quality."""
        holds: tuple[float, Planned] | None = None
        fails: float | None = None
        loss, told, nearest, best = FIRST, [], None, -np.inf
        for _ in range(TRIES):
            found = self.attempt(loss)
            if found is None:
                return None
            judged = self.judged(found.made)
            found = replace(found, made=replace(found.made, judged=judged))
            told.append(f"{found.settled.ms:.3g} ms {judged.difference:+.2f} {judged.unit}")
            if limit.holds(judged.difference):
                holds = (loss, found) if holds is None or found.settled.ms < holds[1].settled.ms else holds
            else:
                fails = loss if fails is None else min(fails, loss)
                nearest = found if judged.difference > best else nearest
                best = max(best, judged.difference)
            if holds is None:
                loss /= _STEP
            elif fails is None:
                loss *= _STEP
            else:
                loss = (holds[0] * fails) ** 0.5
        chosen = holds[1] if holds is not None else nearest
        assert chosen is not None, "tried"
        return replace(chosen, told=(f"Plans that were made and judged on these inputs: {'; '.join(told)}.",))

    def attempt(self, loss: float | None) -> Planned | None:
        """A plan, settled by measuring, and made. Of several processes the first plans."""
        settled = None
        self.number += 1
        if self.where is not None:
            kept = place(self.request, self.where, self.number, loss)
            settled = load(kept, self.where)
            if settled is None:
                settled = settle(self.where, self.request.budget, self.samples, self.report, loss)
                self.where = settled.where
                settled = paying(settled, self.samples, self.request.budget.get("size") is not None)
                save(kept, settled)
            if self.request.recipe is not None and not settled.proposal.met:
                raise NotMet(f"budget: {settled.proposal.reason}; nothing was trained")
        told = None if settled is None else ([str(step.setting) for step in settled.steps], settled.proposal.device)
        texts, device = self.world.told(told)
        own = asked(self.original, tuple(texts)) if settled is None else settled.steps
        return self.made(settled, own, device["runtime"])

    def made(self, settled: Settled | None, own: Sequence[Asked], runtime: str) -> Planned | None:
        """`settled`: None in a process that helps to train."""
        request = replace(self.request, runtime=runtime, number=self.number)
        if request.recipe is not None:
            own = _learning(self.original, own)
            request = request if any(_trains(step) for step in own) else replace(request, recipe=None)
        dense = self.where.network if self.where else None
        made = make(self.original, self.samples, request, own, self.report, dense)
        return None if made is None or settled is None else Planned(made, settled)

    def around(self, found: Planned) -> Planned | None:
        """A plan of losses that were measured in the network that came of the plan before."""
        assert self.where is not None, "one process, without training"
        where = around(self.where, self.samples, floats(self.original.graph, found.made.subject), self.report)
        settled = settle(where, self.request.budget, self.samples, self.report)
        if settled.proposal.methods == found.proposal.methods or not settled.proposal.met:
            return None
        settled = paying(settled, self.samples, self.request.budget.get("size") is not None)
        return self.made(settled, settled.steps, settled.proposal.device["runtime"])

    def judged(self, made: Made) -> Quality:
        ours = outputs(made.subject, made.device.runtime, self.samples.judgement)
        theirs = outputs(self.original.graph, "onnxruntime", self.samples.judgement)
        return quality(ours, theirs, self.samples)

    def loss(self, graph: ModelProto) -> float:
        """Of a whole network, on inputs that nothing was fitted to."""
        assert self.where is not None, "one process"
        held = self.where.network.held_out
        ours, theirs = (outputs(one, "onnxruntime", held) for one in (graph, self.original.graph))
        return float(np.square(relative_error(ours, theirs)).mean())


def floats(original: ModelProto, quantised: ModelProto) -> ModelProto:
    """The original with the weights and biases of a quantised network of the same layers, as floats."""
    theirs = stored(original)
    weights, biases = {}, {}
    for name, layer in stored(quantised).items():
        if name in theirs and layer.scales is not None and layer.weight.shape == theirs[name].weight.shape:
            scales = layer.scales.reshape(-1, *[1] * (layer.weight.ndim - 1))
            weights[name] = (layer.weight * scales).astype(np.float32)
            if layer.bias is not None and layer.op != "MatMul":
                biases[name] = layer.bias.astype(np.float32)
    return with_weights(original, weights, biases)


def _learning(original: Original, steps: Sequence[Asked]) -> Sequence[Asked]:
    """Where 8 bits are all that was planned, they are learned."""
    if original.model is None or [step.setting for step in steps] != [int8.Int8()]:
        return steps
    return asked(original, (_LEARNED,))


def _trains(step: Asked) -> bool:
    return bool(step.shapes or step.method.CARD.trains)
