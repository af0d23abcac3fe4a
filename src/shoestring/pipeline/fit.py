"""The main job, top to bottom: train or calibrate, measure costs, plan, export, gate, measure, write."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from shoestring.compress.method import Setting
from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.receipt import Receipt
from shoestring.core.trail import Trail
from shoestring.deploy import parity, runtimes, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.counts import counts
from shoestring.deploy.materialise import materialise
from shoestring.deploy.normal_form import require
from shoestring.measure.machine import pinned
from shoestring.pipeline.artifact import Story, contents, measured
from shoestring.pipeline.asked import Asked, asked
from shoestring.pipeline.device import here
from shoestring.pipeline.learned import Learned, learn, lowered
from shoestring.pipeline.notes import how, reshaped, what, without_training, worse, zeroed
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import INT8, Chosen, everywhere, planned
from shoestring.pipeline.post_training import EightBit, eight_bit
from shoestring.pipeline.pruning import Pruned, multiplications, written, zeros
from shoestring.pipeline.receipt import Case, Progress, measure
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.shaping import Shaping, shape
from shoestring.pipeline.stopwatch import fastest
from shoestring.pipeline.table import FLOAT, LatencyTable, latency_table
from shoestring.pipeline.untrained import made_up
from shoestring.train import checkpoint
from shoestring.train.recipe import Recipe

# Without labels the divergence from the original is gated even when the budget does not speak of quality.
UNLABELLED_GATE = Budget.parse("quality>=-10pt")
PARITY_INPUTS = 8


@dataclass(frozen=True)
class Request:
    """`methods`: as written (`int8`, `block_ltp:4x1@80%`), one for channels, one for zeros, one for bits; none lets the
    planner choose. `recipe`: how to train, for methods that do, which share its epochs; None applies and exports
    without. `start`: weights of a point of a sparsity trail, to go on from. `runtime`: None takes the fastest here for
    the 8-bit network. `seconds`: how long the receipt may time. `preprocess`, `labels`: go into the file.
    `reconstruct`: what no training makes up for is fitted layer by layer to the original's outputs."""

    out: Path
    budget: Budget = field(default_factory=Budget)
    methods: tuple[str, ...] = ()
    recipe: Recipe | None = None
    start: Path | None = None
    runtime: str | None = None
    threads: int = 1
    batch: int = 1
    seconds: float = 20.0
    seed: int = 0
    preprocess: Mapping[str, Any] | None = None
    labels: Sequence[str] = ()
    reconstruct: bool = True

    @property
    def checkpoints(self) -> Path:
        """The folder in which a training that is under way keeps its state, beside the file to come."""
        return self.out.with_suffix(".training")

    @property
    def trail(self) -> Path:
        """The folder for the sparsities that a pruning run passes through, beside the file."""
        return self.out.with_suffix(".trail")


@dataclass(frozen=True)
class Fitted:
    """What `fit` hands back: the file is on disk, the receipt is in it. `trail`: the sparsities that a pruning run
    passed through, in `Request.trail` with weights to go on from."""

    path: Path
    receipt: Receipt
    table: LatencyTable
    chosen: Chosen
    parity: parity.Parity
    trail: Trail | None = None


def fit(original: Original, samples: Samples, request: Request, progress: Progress | None = None) -> Fitted | None:
    """Fits `original` to the budget and writes `request.out` with its receipt. Whether the budget holds is the
    receipt's verdict. Training that was stopped goes on where it was. Of several processes (torchrun) the first
    measures and writes; the others only help to train, and return None. Raises BadInput for what cannot be done and
    NotMet when the parity gate finds that the runtime does not compute what was fitted; in both cases nothing is
    written. Warns NoEffectWarning when the plan leaves every layer as it is, and when nothing was pruned."""
    report = progress or (lambda stage, share: None)
    if request.out.suffix != ".shoe":
        raise BadInput(f"{request.out}: what is written is a .shoe file; name it {request.out.stem}.shoe")
    shoe.require_writable(request.out)
    here(request.runtime or runtimes.NAMES[0], request.threads)  # refuses now what it would refuse later
    if request.budget.get("micronet"):
        counts(original.graph)  # the same: an operator that the score has no rule for
    *shaping, bits = asked(original, request.methods, request.recipe)
    method, recipe = bits.method, _share(request.recipe, [*shaping, bits])

    pruned = None
    if shaping or request.start is not None:
        places = request.checkpoints, request.trail, request.start
        way = Shaping(recipe, *places, request.runtime, request.threads, request.reconstruct)
        pruned = shape(original, samples, shaping, method.CARD.trains, way, report)
        if pruned is None:
            return None
    student = pruned.original if pruned else original
    settings = bits.settings(student)

    learned = None
    if method.CARD.trains:
        folder = request.checkpoints / method.CARD.name
        learned = learn(original, pruned, samples, method, settings, recipe, folder, report)
        if not learned.leader:
            return None

    report("calibrating", 0.0)
    dense, network = _in_8_bits(original, pruned, samples, None if learned else bits.setting, request)
    dense8, made8 = dense.build(), network.build()
    report("calibrating", 1.0)

    device = here(request.runtime or fastest(made8, request.threads), request.threads)
    with pinned(device.threads):
        variants = {FLOAT: original.graph, INT8: dense8}
        names = [layer.name for layer in original.layers]
        table = latency_table(variants, names, device, progress=lambda share: report("latency table", share))
    if learned is not None:
        chosen, subject = Chosen({name: str(setting) for name, setting in settings.items()}), learned.graph
    else:
        chosen, subject = _planned(original, network, made8, table, request, device, report)

    refitted = None
    if _untrained(request, chosen, learned):
        refitted = made_up(
            subject, original, pruned, network, learned, chosen.quantised, samples, request.checkpoints, report
        )
        subject = refitted.graph
    if learned is not None:
        subject = lowered(replace(learned, graph=subject), device)

    require(subject)
    report("parity gate", 0.0)
    compared = parity.compare(subject, device.runtime, samples.calibration[:PARITY_INPUTS], device.threads)
    parity.gate(compared)
    report("parity gate", 1.0)

    story = Story(
        methods={name: text for name, text in written(settings, pruned).items() if name in chosen.quantised},
        ranges=network.rule if learned is None else "",
        budget=str(request.budget),
        seed=request.seed,
        data=samples.provenance or {},
        training=asdict(request.recipe) if request.recipe else {},
    )
    stored = (
        learned.bits if learned else {name: bits for name, bits in network.bits.items() if name in chosen.quantised}
    )
    made = contents(original, subject, story, request.preprocess, request.labels, stored)
    empty = zeros(subject, pruned.settings) if pruned else {}
    case = Case(
        file=request.out.name,
        subject=subject,
        original=original.graph,
        int8=dense8,
        size=shoe.size(made),
        device=device,
        layers=[layer.name for layer in original.layers if layer.weight],
        macs=(multiplications(original.layers, {}), multiplications(student.layers, empty)),
        samples=samples,
        trained=original.trained,
        notes=(
            *how(samples, network, chosen, learned, pruned),
            *without_training(refitted),
            *reshaped(original, pruned),
            *zeroed(pruned, empty, device),
            *what(original, samples, chosen, compared),
        ),
    )
    receipt = measure(case, _gated(request.budget, original, samples), request.batch, request.seconds, progress)
    receipt = replace(receipt, notes=(*receipt.notes, *worse(receipt)))
    shoe.write(request.out, replace(made, points=(measured(made.points[0], receipt),), receipt=receipt))
    trust(materialise(made.points[0], made.members))
    checkpoint.remove_all(request.checkpoints)
    return Fitted(request.out, receipt, table, chosen, compared, pruned.trail if pruned else None)


def _share(recipe: Recipe | None, steps: Sequence[Asked]) -> Recipe | None:
    """The recipe of each step that trains: they have equal parts of the epochs."""
    trained = sum(step.shapes or step.method.CARD.trains for step in steps)
    return None if recipe is None else replace(recipe, epochs=recipe.epochs / trained)


def _in_8_bits(
    original: Original, pruned: Pruned | None, samples: Samples, setting: Setting | None, request: Request
) -> tuple[EightBit, EightBit]:
    """The original and what is left of it, calibrated."""
    dense = eight_bit(original, samples, setting)
    if pruned is None:
        return dense, dense
    if request.reconstruct and pruned.dense is not None and not pruned.reshaped:
        # What is made up for has the ranges of the original, not of what zeros alone would leave.
        return dense, replace(dense, graph=pruned.original.graph)
    return dense, eight_bit(pruned.original, samples, setting)


def _planned(  # noqa: PLR0913 - a stage of `fit`, handed what the stages before made
    original: Original,
    network: EightBit,
    made: ModelProto,
    table: LatencyTable,
    request: Request,
    device: Device,
    report: Progress,
) -> tuple[Chosen, ModelProto]:
    """What becomes of each layer, and the graph: `made`, in 8 bits wherever that can be, unless there is a choice."""
    if request.methods or device.runtime not in runtimes.STOCK:  # the engine has no fp32 to choose
        return everywhere(network), made
    return planned(original.layers, network, table, request.budget, device, report)


def _untrained(request: Request, chosen: Chosen, learned: Learned | None) -> bool:
    """Whether there is anything to reconstruct. Warns when nothing is quantised."""
    if not chosen.quantised:
        warnings.warn("the plan leaves every layer in fp32: the file is the original", NoEffectWarning, stacklevel=3)
    return request.reconstruct and bool(chosen.quantised) and not (learned and learned.epochs)


def _gated(budget: Budget, original: Original, samples: Samples) -> Budget:
    if samples.targets is not None or not original.trained or budget.get("quality"):
        return budget
    return Budget((*budget.limits, *UNLABELLED_GATE.limits))
