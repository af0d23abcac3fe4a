"""The main job, top to bottom: measure costs, plan, compress, export, gate, measure, write."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from shoestring.compress import METHODS
from shoestring.compress.method import Setting
from shoestring.core.budget import Budget
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import DEPTHWISE
from shoestring.core.precision import Precision
from shoestring.core.receipt import Receipt
from shoestring.deploy import parity, runtimes, shoe
from shoestring.deploy.check import trust
from shoestring.deploy.normal_form import require
from shoestring.measure.machine import pinned
from shoestring.pipeline.artifact import GRAPH, Story, contents, measured_point
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import INT8, Chosen, everywhere, planned
from shoestring.pipeline.post_training import EightBit, calibrate, with_best_rule
from shoestring.pipeline.receipt import Case, Progress, measure
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import fastest
from shoestring.pipeline.table import FLOAT, LatencyTable, latency_table

# Without labels the divergence from the original is gated even when the budget does not speak of quality.
UNLABELLED_GATE = Budget.parse("quality>=-10pt")
PARITY_INPUTS = 8


@dataclass(frozen=True)
class Request:
    """`methods`: as written (`int8`, `int8:full`); none lets the planner choose. `runtime`: None takes the fastest
    here for the 8-bit network. `seconds`: how long the receipt may time. `preprocess`, `labels`: go into the file."""

    out: Path
    budget: Budget = field(default_factory=Budget)
    methods: tuple[str, ...] = ()
    runtime: str | None = None
    threads: int = 1
    batch: int = 1
    seconds: float = 20.0
    seed: int = 0
    preprocess: Mapping[str, Any] | None = None
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Fitted:
    """What `fit` hands back: the file is on disk, the receipt is in it."""

    path: Path
    receipt: Receipt
    table: LatencyTable
    chosen: Chosen
    parity: parity.Parity


def fit(original: Original, samples: Samples, request: Request, progress: Progress | None = None) -> Fitted:
    """Fits `original` to the budget and writes `request.out` with its receipt. Whether the budget holds is the
    receipt's verdict. Raises BadInput for what cannot be done and NotMet when the parity gate finds that the runtime
    does not compute what was fitted; in both cases nothing is written. Warns NoEffectWarning when the plan leaves every
    layer as it is."""
    report = progress or (lambda stage, share: None)
    if request.out.suffix != ".shoe":
        raise BadInput(f"{request.out}: what is written is a .shoe file; name it {request.out.stem}.shoe")
    shoe.require_writable(request.out)
    here(request.runtime or runtimes.NAMES[0], request.threads)  # refuses now what it would refuse later
    method, settings = _settings(original, request.methods)

    report("calibrating", 0.0)
    network = calibrate(original.graph, samples.calibration, _precisions(original, method, settings))
    rule = method.rule(next(iter(settings.values())))
    network = replace(network, rule=rule) if rule else with_best_rule(network)
    dense8 = network.build()
    report("calibrating", 1.0)

    device = here(request.runtime or fastest(dense8, request.threads), request.threads)
    with pinned(device.threads):
        variants = {FLOAT: original.graph, INT8: dense8}
        names = [layer.name for layer in original.layers]
        table = latency_table(variants, names, device, progress=lambda share: report("latency table", share))
    if request.methods:
        chosen, subject = everywhere(network), dense8
    else:
        chosen, subject = planned(original.layers, network, table, request.budget, device, report)

    if not chosen.quantised:
        warnings.warn("the plan leaves every layer in fp32: the file is the original", NoEffectWarning, stacklevel=2)

    require(subject)
    report("parity gate", 0.0)
    compared = parity.compare(subject, device.runtime, samples.calibration[:PARITY_INPUTS], device.threads)
    parity.gate(compared)
    report("parity gate", 1.0)

    methods = {name: str(settings[name]) for name in _in_order(original, chosen)}
    story = Story(methods, network.rule, str(request.budget), request.seed, samples.provenance or {})
    made = contents(original, subject, story, request.preprocess, request.labels)
    macs = sum(layer.macs for layer in original.layers)
    case = Case(
        file=request.out.name,
        subject=subject,
        original=original.graph,
        int8=dense8,
        size=shoe.size(made),
        device=device,
        layers=[layer.name for layer in original.layers if layer.weight],
        macs=(macs, macs),
        samples=samples,
        trained=original.trained,
        notes=_notes(original, samples, network, chosen, compared),
    )
    receipt = measure(case, _gated(request.budget, original, samples), request.batch, request.seconds, progress)
    shoe.write(request.out, replace(made, points=(measured_point(receipt),), receipt=receipt))
    trust(made.members[GRAPH])
    return Fitted(request.out, receipt, table, chosen, compared)


def _in_order(original: Original, chosen: Chosen) -> list[str]:
    """The quantised layers in the order they run."""
    return [layer.name for layer in original.layers if layer.name in chosen.quantised]


def _settings(original: Original, methods: tuple[str, ...]) -> tuple[ModuleType, dict[str, Setting]]:
    """The method asked for (without one, what the planner may choose beside fp32), and its setting for each layer."""
    if len(methods) > 1:
        raise BadInput(f"--method: {', '.join(methods)} cannot be combined yet; give one")
    name, _, text = (methods or (INT8,))[0].partition(":")
    if name not in METHODS:
        raise BadInput(f"--method: unknown method {name!r}; known are {', '.join(METHODS)}")
    method = METHODS[name]
    setting: Setting = method.parse(text)
    chosen = {layer.name: setting for layer in original.of_kinds(method.CARD.kinds)}
    if not chosen:
        raise BadInput(f"{original.name}: has no layer that {name} applies to ({', '.join(method.CARD.kinds)})")
    return method, chosen


def _precisions(original: Original, method: ModuleType, settings: Mapping[str, Setting]) -> dict[str, Precision]:
    """What the exporter must realise: from the method where there is a torch model, else from the layers' kinds."""
    if original.model is not None:
        return dict(method.apply(original.model, settings).precisions)
    kinds = {layer.name: layer.kind for layer in original.layers}
    return {name: method.precision(kinds[name] == DEPTHWISE, setting) for name, setting in settings.items()}


def _gated(budget: Budget, original: Original, samples: Samples) -> Budget:
    if samples.targets is not None or not original.trained or budget.get("quality"):
        return budget
    return Budget((*budget.limits, *UNLABELLED_GATE.limits))


def _notes(
    original: Original, samples: Samples, network: EightBit, chosen: Chosen, compared: parity.Parity
) -> tuple[str, ...]:
    tried = ", ".join(f"{name} {points:.1f} pt" for name, points in network.tried.items()) or "no other was tried"
    equal = 100 * min(edge.equal for edge in compared.edges) if compared.edges else 100.0
    notes = [
        f"No training was done: {len(chosen.quantised)} of {len(chosen.picks)} layers in 8 bits, calibrated on "
        f"{len(samples.calibration)} inputs.",
        f"Ranges by {network.rule} (divergence on held-out inputs: {tried}).",
        f"Parity gate: {len(compared.edges)} edges, at least {equal:.2f} % of an edge's codes equal to the "
        f"fake-quantised model's; the whole network moves {compared.moved:.1f} pt from it.",
    ]
    if not original.trained:
        notes.append("The weights are random: speed is measured, quality is not.")
    elif samples.targets is None:
        notes.append(f"No labels: judged by divergence from the original on {len(samples.judgement)} inputs.")
    if not chosen.met:
        notes.append(f"No plan meets the budget: {chosen.reason}. This is the fastest one.")
    return tuple(notes)
