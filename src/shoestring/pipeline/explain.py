"""Explain: before any training, what each method would really do to each layer here, with the measured cost."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from shoestring.compress import METHODS, channels, int8, magnitude, structured_conv
from shoestring.core.blocks import Blocks
from shoestring.core.budget import Budget
from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, Device
from shoestring.core.errors import BadInput
from shoestring.core.explanation import UNKNOWN, Effect, ExplainedLayer, Explanation
from shoestring.core.layer import CONV, LINEAR, Layer
from shoestring.core.proposal import Proposal
from shoestring.deploy import runtimes
from shoestring.measure.machine import pinned
from shoestring.pipeline import sparsity, structure
from shoestring.pipeline.asked import asked
from shoestring.pipeline.device import here
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import FIRST, LIMITED, ground
from shoestring.pipeline.post_training import calibrate, eight_bit
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import Settled, settle
from shoestring.pipeline.table import FLOAT, WORTH, LatencyTable, latency_table

LOW = "w4a4"  # the bits that stand for all below 8
_MEASURED = "measured in the whole network"
N_OF_M = "2:4"
_SINGLE = "1x1@80%"  # fits any layer
# A setting that stands for each pattern, and what the contract calls its zeros.
_PATTERNS = {
    _SINGLE: "unstructured zeros",
    "4x1@80%": "block zeros",
    "4x4@80%": "block zeros",
    N_OF_M: "N:M zeros",
}
_CHANNELS = "30%"
_NARROWER = "removes whole channels: runs everywhere, see the staircase; needs training"
_STAIRCASE = "src/shoestring/compress/channels/README.md"


def explain(original: Original, device: Device, progress: Callable[[str, float], object] | None = None) -> Explanation:
    """Times the network in fp32 and in 8 bits on `device`, layer by layer. The 8-bit network is calibrated on noise:
    good for speed, and for nothing else."""
    report = progress or (lambda stage, share: None)
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    noise = original.noise()
    report("building the 8-bit network", 0.0)
    variants = {FLOAT: original.graph, int8.CARD.name: calibrate(original.graph, noise, precisions).build()}
    if device.runtime not in runtimes.STOCK:  # which multiply by zeros as by any other number
        variants |= sparsity.variants(original, noise, precisions)
        for pattern in sparsity.OTHERS:
            variants |= sparsity.variants(original, noise, precisions, (sparsity.OTHER_LEVEL,), pattern)
    variants |= structure.variants(original, noise)
    with pinned(device.threads):
        table = latency_table(
            variants,
            [layer.name for layer in original.layers],
            device,
            progress=lambda share: report("latency table", share),
        )
    takes, shapes = _takes(original), structure.takes(original)
    layers = tuple(
        ExplainedLayer(
            layer,
            table.layers[layer.name][FLOAT],
            (*_effects(layer, table, device, takes), *_sums(layer, table, shapes)) if layer.name in precisions else (),
        )
        for layer in original.layers
    )
    totals = {"original" if option == FLOAT else _pattern(option): ms for option, ms in table.totals.items()}
    notes = (*_notes(original, device), *_gains(original, table, shapes))
    return Explanation(original.name, device.to_json(), layers, totals, notes)


def proposed(  # noqa: PLR0913 - what a user may ask for
    original: Original,
    samples: Samples,
    budget: Budget,
    runtime: str | None = None,
    threads: int = 1,
    without: Collection[str] = (),
    progress: Progress | None = None,
) -> Proposal:
    """The plan that `fit` would begin with: from measured costs and losses, corrected by timing its draft. Nothing is
    applied. Where quality alone is limited, `fit` looks for the plan by making some; here is the first that it makes.
    Raises BadInput for what cannot be planned."""
    report = progress or (lambda stage, share: None)
    if unplanned := [limit.name for limit in budget.limits if limit.name not in LIMITED]:
        raise BadInput(f"--budget: {unplanned[0]} is measured, and cannot be planned for; give {', '.join(LIMITED)}")
    if ranges := [limit for limit in budget.limits if limit.upper is not None]:
        raise BadInput(f"--budget: {ranges[0]} is a range; explain tells of one plan, give one limit")
    network = eight_bit(original, samples)
    where = ground(original, network, samples, budget, runtime, threads, without, report)
    loss = FIRST if not budget.get("latency") and budget.get("quality") else None
    settled = settle(where, budget, samples, report, loss)
    legal = (f"{name}: {METHODS[name].CARD.legal}." for name in methods(settled) if METHODS[name].CARD.legal)
    return replace(settled.proposal, notes=(*legal, *_unjudged(budget)))


def methods(settled: Settled) -> list[str]:
    """Names of the methods of a plan, in the order in which they apply."""
    return [step.method.CARD.name for step in settled.steps]


def _unjudged(budget: Budget) -> list[str]:
    """What a plan does not say."""
    if budget.get("quality") is None:
        return []
    return ["Quality is judged when the network has been made; a plan knows the errors of outputs only."]


def require_effect(texts: tuple[str, ...], original: Original, runtime: str | None, threads: int) -> None:
    """Raises BadInput for a method of `texts` that takes no time off on `runtime` (any, where none is given)."""
    devices = [here(name, threads) for name in ([runtime] if runtime else runtimes.installed())]
    for step in asked(original, texts) if texts else ():
        if not step.method.CARD.prunes:
            continue
        for feature in {step.method.feature(setting) for setting in step.settings(original).values()}:
            said = [device.verdict(feature) for device in devices]
            if all(entry is not None and entry.verdict == NO_EFFECT for entry in said):
                note = next(entry.note for entry in said if entry is not None)
                where = runtime or "any runtime here"
                raise BadInput(f"--method: {step.setting} has no effect on {where} ({feature}: {note}); leave it out")


def _takes(original: Original) -> dict[str, frozenset[str]]:
    """A setting of zeros or channels to the layers that lose something by it: not those that its method leaves whole
    unless they are named, and not those that cannot hold the pattern."""
    found = {_CHANNELS: _cut(original)}
    layers = original.of_kinds(magnitude.CARD.kinds)
    for setting in _PATTERNS:
        asked = Blocks.parse(setting)
        chosen = sparsity.blocks(layers, asked)
        found[setting] = frozenset(name for name, own in chosen.items() if own == asked)
    return found


def _cut(original: Original) -> frozenset[str]:
    assigned = channels.assign(original.of_kinds(channels.CARD.kinds), channels.parse(_CHANNELS))
    return frozenset(name for name, setting in assigned.items() if setting.percent)


def _effects(
    layer: Layer, table: LatencyTable, device: Device, takes: Mapping[str, frozenset[str]]
) -> tuple[Effect, ...]:
    """`takes`: setting to the layers that lose something by it."""
    before, after = table.layers[layer.name][FLOAT], table.layers[layer.name][int8.CARD.name]
    faster = after <= WORTH * before
    note = "" if faster else "not faster than fp32 here"
    measured = Effect(int8.CARD.name, "", RUNS if faster else SLOWER, after, note, _MEASURED)
    cut = Effect(channels.CARD.name, _CHANNELS, RUNS, None, _NARROWER, _STAIRCASE)
    narrower = (cut,) if layer.name in takes[_CHANNELS] else ()
    return (measured, _low_bits(layer, after, device), *_zeros(layer, table, device, takes), *narrower)


def _zeros(
    layer: Layer, table: LatencyTable, device: Device, takes: Mapping[str, frozenset[str]]
) -> tuple[Effect, ...]:
    """Zeros in each pattern, whichever method makes them: their time where the runtime leaves them out, else what its
    contract says, which is a time where that is the one of dense 8 bits."""
    dense, needs = (
        table.layers[layer.name][int8.CARD.name],
        "needs training or reconstruction; every layer loses as much",
    )
    measured = [option for option in table.layers[layer.name] if option.startswith(magnitude.CARD.name)]
    found = []
    for option in measured if layer.name in takes[_SINGLE] else ():
        ms, setting = table.layers[layer.name][option], _pattern(option).partition(":")[2]
        verdict = RUNS if ms <= WORTH * dense else NO_EFFECT
        found.append(Effect(magnitude.CARD.name, setting, verdict, ms, needs, _MEASURED))
    for setting, feature in _PATTERNS.items():
        said = device.verdict(feature)
        if said is not None and layer.name in takes[setting] and (not measured or setting == N_OF_M):
            known = dense if said.verdict == NO_EFFECT else None
            found.append(Effect(magnitude.CARD.name, setting, said.verdict, known, said.note, said.source))
    return tuple(found)


def _sums(layer: Layer, table: LatencyTable, shapes: Mapping[str, frozenset[str]]) -> tuple[Effect, ...]:
    """Decomposed kernels, where they were timed."""
    dense, found, name = table.layers[layer.name][int8.CARD.name], [], structured_conv.CARD.name
    for text, taken in shapes.items():
        ms = table.layers[layer.name].get(f"{name}:{text}")
        if layer.name in taken and ms is not None:
            verdict = RUNS if ms <= WORTH * dense else SLOWER if ms * WORTH > dense else NO_EFFECT
            found.append(Effect(name, text, verdict, ms, "needs training or reconstruction", _MEASURED))
    return tuple(found)


def _gains(original: Original, table: LatencyTable, shapes: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """What decomposing does in sum, and to layers of each kind."""
    kinds = {layer.name: "dense" if layer.kind == CONV else layer.kind for layer in original.layers}
    for text, taken in shapes.items():
        option = f"{structured_conv.CARD.name}:{text}"
        if option not in table.totals:
            continue
        dense, whole = table.totals[int8.CARD.name], table.totals[option]
        told = []
        for kind in dict.fromkeys(kinds[name] for name in taken):
            times = [table.layers[name] for name in taken if kinds[name] == kind]
            faster = sum(time[option] <= WORTH * time[int8.CARD.name] for time in times)
            told.append(f"{faster} of {len(times)} {kind} layers are faster")
        yield (
            f"{option} in every layer it is for: {dense / whole:.2f}x of dense 8 bits ({dense:.3g} to {whole:.3g} ms); "
            f"{', '.join(told)}. `fit` decomposes those that are."
        )


def _pattern(option: str) -> str:
    """An option of the latency table without its scope, which would hide the pattern where columns are narrow."""
    return option.removesuffix(f":{magnitude.UNIFORM}")


def _low_bits(layer: Layer, int8_ms: float, device: Device) -> Effect:
    """Four bits: what the runtime's contract says. Where they are only stored, the layer takes its time at 8 bits."""
    feature = "linear 4 bits" if layer.kind == LINEAR else "conv below 8 bits"
    said = next((entry for entry in device.capabilities if entry.feature == feature), None)
    if said is None:
        return Effect("lsq+", LOW, UNKNOWN, None, "nobody has measured it on this runtime")
    stored = said.verdict == STORED_ONLY
    note = "smaller in the file, executed at 8 bits; needs training" if stored else "needs training"
    return Effect("lsq+", LOW, said.verdict, int8_ms if stored else None, note, said.source)


def _notes(original: Original, device: Device) -> tuple[str, ...]:
    contract = (f"{entry.feature}: {entry.verdict}. {entry.note} ({entry.source})" for entry in device.capabilities)
    legal = (f"{name}: {method.CARD.legal}" for name, method in METHODS.items() if method.CARD.legal)
    pruning = ", ".join(name for name, method in METHODS.items() if method.CARD.prunes)
    patterns = (
        f"Zeros take the same time whichever method makes them ({pruning}): 1x1 are unstructured zeros, 4x1 and 4x4 "
        "block zeros, 2:4 N:M zeros. The first, the last and depthwise layers keep all weights unless they are named. "
        "A channel that is gone is gone on every runtime.",
    )
    random = () if original.trained else ("The weights are random; times do not depend on that.",)
    return (*random, *patterns, *legal, *contract)
