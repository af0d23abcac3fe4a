"""The main job, top to bottom: plan, apply, train or reconstruct, export, gate, measure, write."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput
from shoestring.core.proposal import Proposal
from shoestring.core.receipt import Receipt
from shoestring.core.trail import Trail
from shoestring.deploy import parity, runtimes, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.counts import counts
from shoestring.deploy.materialise import materialise
from shoestring.deploy.normal_form import require
from shoestring.pipeline.artifact import Story, contents, measured
from shoestring.pipeline.asked import asked
from shoestring.pipeline.device import here
from shoestring.pipeline.ledger import ledger
from shoestring.pipeline.making import Made, make
from shoestring.pipeline.notes import how, reshaped, rest, what, without_training, worse, zeroed
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import require_known
from shoestring.pipeline.planned import Planned, planned, plans
from shoestring.pipeline.pruning import multiplications, written, zeros
from shoestring.pipeline.receipt import Case, Progress, measure
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import forget
from shoestring.pipeline.samples import Samples

# Without labels the divergence from the original is gated even when the budget does not speak of quality.
UNLABELLED_GATE = Budget.parse("quality>=-10pt")
PARITY_INPUTS = 8


@dataclass(frozen=True)
class Fitted:
    """What `fit` hands back: the file is on disk, the receipt is in it. `picks`: layer to what became of it.
    `proposal`: the plan that was applied, None where methods were asked for. `trail`: the sparsities that a pruning run
    passed through, in `Request.trail` with weights to go on from."""

    path: Path
    receipt: Receipt
    picks: Mapping[str, str]
    parity: parity.Parity
    proposal: Proposal | None = None
    trail: Trail | None = None


def fit(original: Original, samples: Samples, request: Request, progress: Progress | None = None) -> Fitted | None:
    """Fits `original` to the budget and writes `request.out` with its receipt. Whether the budget holds is the
    receipt's verdict. Training that was stopped goes on where it was. Of several processes (torchrun) the first
    measures and writes; the others only help to train, and return None. Raises BadInput for what cannot be done and
    NotMet when a limit is out of reach of any training, and when the parity gate finds that the runtime does not
    compute what was fitted; in these cases nothing is written. Warns NoEffectWarning when every layer is left as it is,
    and when nothing was pruned."""
    report = progress or (lambda stage, share: None)
    require_possible(original, request)
    plan: Planned | None = None
    if plans(request, original):
        plan = planned(original, samples, request, report)
        made = None if plan is None else plan.made
    else:
        made = make(original, samples, request, asked(original, request.methods, request.recipe), report)
    return None if made is None else _finished(original, samples, request, made, plan, report)


def require_possible(original: Original, request: Request) -> None:
    """Refuses now what would be refused when hours are spent. Raises BadInput."""
    if request.out.suffix != ".shoe":
        raise BadInput(f"{request.out}: what is written is a .shoe file; name it {request.out.stem}.shoe")
    shoe.require_writable(request.out)
    here(request.runtime or runtimes.NAMES[0], request.threads)
    require_known(request.without)
    if request.budget.get("micronet"):
        counts(original.graph)  # an operator that the score has no rule for


def _finished(
    original: Original, samples: Samples, request: Request, made: Made, plan: Planned | None, report: Progress
) -> Fitted:
    """The file of what was made: through the gate, measured, written."""
    subject, device, pruned, learned = made.subject, made.device, made.pruned, made.learned
    require(subject)
    report("parity gate", 0.0)
    compared = parity.compare(subject, device.runtime, samples.calibration[:PARITY_INPUTS], device.threads)
    parity.gate(compared)
    report("parity gate", 1.0)

    story = Story(
        methods={name: text for name, text in written(made.settings, pruned).items() if name in made.quantised},
        ranges=made.network.rule if learned is None else "",
        budget=str(request.budget),
        seed=request.seed,
        data=samples.provenance or {},
        training=asdict(request.recipe) if request.recipe else {},
    )
    stored = made.network.bits if learned is None else learned.bits
    held = contents(original, subject, story, request.preprocess, request.labels, stored)
    empty = zeros(subject, pruned.settings) if pruned else {}
    student = pruned.original if pruned else original
    case = Case(
        file=request.out.name,
        subject=subject,
        original=original.graph,
        int8=made.dense.build(),
        size=shoe.size(held),
        device=device,
        layers=[layer.name for layer in original.layers if layer.weight],
        macs=(multiplications(original.layers, {}), multiplications(student.layers, empty)),
        samples=samples,
        trained=original.trained,
        notes=(
            *how(samples, made),
            *without_training(made.refitted),
            *reshaped(original, pruned),
            *zeroed(pruned, empty, device),
            *what(original, samples, plan, compared),
        ),
    )
    receipt = measure(case, gated(request.budget, original, samples), request.batch, request.seconds, report)
    steps = ledger(original, made, plan, shoe.size(held), report)
    receipt = replace(receipt, notes=(*receipt.notes, *worse(receipt), *rest(receipt, plan)), ledger=steps)
    shoe.write(request.out, replace(held, points=(measured(held.points[0], receipt),), receipt=receipt))
    trust(materialise(held.points[0], held.members))
    forget(request)
    return Fitted(
        request.out, receipt, made.picks, compared, plan.proposal if plan else None, pruned.trail if pruned else None
    )


def gated(budget: Budget, original: Original, samples: Samples) -> Budget:
    """`budget`, with a limit on quality where no labels judge it and none was asked for."""
    if samples.targets is not None or not original.trained or budget.get("quality"):
        return budget
    return Budget((*budget.limits, *UNLABELLED_GATE.limits))
