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
from shoestring.pipeline.recovery import recover
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import load, place, save
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import Settled, bare, beside, paying, settle
from shoestring.train.processes import join

TRIES = 4  # plans that are made and judged, where quality alone is limited
RESIZED = 2  # times that a plan is made anew because its file is too large
GROWS = 0.02  # of a limit on size: what training may add to a file, which is not trained anew for its size
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
    if not search.world.leader:
        search.help()
        return None
    limit = request.budget.get("quality")
    found = search.within(limit) if limit is not None and _fastest(request, original) else search.least()
    search.world.told(None)  # to those that help
    return found


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
            where = ground(original, network, samples, *how, report)
            spare = 0.0 if request.recipe is None else GROWS * where.limits(request.budget).get("size", 0.0)
            self.where = replace(where, grown=self.told + spare)

    def least(self) -> Planned:
        """The least loss within the limits."""
        found = self.attempt(None)
        if self.request.recipe is not None:
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
            found = self.attempt(None)
        return found

    def within(self, limit: Limit) -> Planned:
        """The fastest plan that is judged to hold the limit on quality."""
        tried: list[tuple[Planned, Quality]] = []
        holds: float | None = None  # the largest loss that does
        fails: float | None = None  # the smallest that does not
        loss = FIRST
        for _ in range(TRIES):
            settled = self.settled(loss)
            found = next(((one, of) for one, of in tried if _same(one.proposal, settled.proposal)), None)
            if found is None:
                made = self.agreed(settled)
                found = made, self.judged(made.made)
                tried.append(found)
            if limit.holds(found[1].difference):
                holds = loss if holds is None else max(holds, loss)
            else:
                fails = loss if fails is None else min(fails, loss)
            if holds is None:
                loss /= _STEP
            elif fails is None:
                loss *= _STEP
            else:
                loss = (holds * fails) ** 0.5
        holding = [one for one in tried if limit.holds(one[1].difference)]
        nearest = max(tried, key=lambda one: one[1].difference)
        chosen, judged = min(holding, key=lambda one: one[0].settled.ms) if holding else nearest
        texts = [f"{one.settled.ms:.3g} ms {of.difference:+.2f} {of.unit}" for one, of in tried]
        told = f"Plans that were made and judged on these inputs: {'; '.join(texts)}."
        return replace(chosen, made=replace(chosen.made, judged=judged), told=(told,))

    def attempt(self, loss: float | None) -> Planned:
        """A plan, settled by measuring, and made."""
        return self.agreed(self.settled(loss))

    def settled(self, loss: float | None) -> Settled:
        """A plan, settled by measuring, or as it was before the fit was stopped."""
        assert self.where is not None, "the first process"
        self.number += 1
        kept = place(self.request, self.where, self.number, loss)
        settled = load(kept, self.where)
        if settled is None:
            settled = settle(self.where, self.request.budget, self.samples, self.report, loss)
            self.where = settled.where
            settled = paying(settled, self.samples, self.request.budget.get("size") is not None)
            save(kept, settled)
        if self.request.recipe is not None and not settled.proposal.met:
            self.world.told(None)
            raise NotMet(f"budget: {settled.proposal.reason}; nothing was trained")
        return settled

    def agreed(self, settled: Settled) -> Planned:
        """The plan, made: of several processes the first tells the others."""
        self.world.told(([str(step.setting) for step in settled.steps], settled.proposal.device))
        found = self.made(settled, settled.steps, settled.proposal.device["runtime"])
        assert found is not None, "the first process goes on to export"
        return found

    def help(self) -> None:
        """Makes what the first process plans, until it is done."""
        while (told := self.world.told(None)) is not None:
            texts, device = told
            self.made(None, asked(self.original, tuple(texts)), device["runtime"])

    def made(self, settled: Settled | None, own: Sequence[Asked], runtime: str) -> Planned | None:
        """`settled`: None in a process that helps to train."""
        request = replace(self.request, runtime=runtime, number=self.number)
        if request.recipe is not None:
            own = _learning(self.original, own)
            request = request if any(_trains(step) for step in own) else replace(request, recipe=None)
        dense = self.where.network if self.where else None
        trains = request.recipe is not None and self.original.model is not None
        recovers = trains and request.reconstruct and any(step.shapes for step in own)
        made = (recover if recovers else make)(self.original, self.samples, request, own, self.report, dense)
        return None if made is None or settled is None else Planned(made, settled)

    def around(self, found: Planned) -> Planned | None:
        """A plan of losses that were measured in the network that came of the plan before."""
        assert self.where is not None, "one process, without training"
        where = around(self.where, self.samples, floats(self.original.graph, found.made.subject), self.report)
        settled = settle(where, self.request.budget, self.samples, self.report)
        if settled.proposal.methods == found.proposal.methods or not settled.proposal.met:
            return None
        return self.agreed(paying(settled, self.samples, self.request.budget.get("size") is not None))

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


def _same(one: Proposal, other: Proposal) -> bool:
    """Whether the same would be made of both."""
    return (one.methods, one.device["runtime"]) == (other.methods, other.device["runtime"])


def _learning(original: Original, steps: Sequence[Asked]) -> Sequence[Asked]:
    """Where 8 bits are all that was planned, they are learned."""
    if original.model is None or [step.setting for step in steps] != [int8.Int8()]:
        return steps
    return asked(original, (_LEARNED,))


def _trains(step: Asked) -> bool:
    return bool(step.shapes or step.method.CARD.trains)
