"""What a reader of a fit's receipt must know, in sentences."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from shoestring.compress import METHODS
from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.receipt import Receipt
from shoestring.deploy import parity
from shoestring.deploy.matmul_nbits import OPERATOR
from shoestring.pipeline.making import Made
from shoestring.pipeline.original import Original
from shoestring.pipeline.plan import propose
from shoestring.pipeline.planned import Planned
from shoestring.pipeline.pruning import Pruned, first_call, multiplications
from shoestring.pipeline.reconstruct import Reconstructed
from shoestring.pipeline.samples import Samples

_EXECUTED_AT_8 = (
    "stored at fewer than 8 bits and executed at 8: the file is smaller, the milliseconds are those of 8 bits."
)
_TINY = 1e-30  # an error that is none
_WORTH_A_WORD = 1.03  # smaller differences to dense 8 bits come and go with the weather


def how(samples: Samples, made: Made) -> tuple[str, ...]:
    """How the file came to be: by training, or without."""
    network, learned, pruned = made.network, made.learned, made.pruned
    if learned is None:
        epochs = pruned.epochs if pruned else 0.0
        done = f"Trained for {_epochs(epochs)}; then" if epochs else "No training was done:"
        tried = ", ".join(f"{name} {points:.1f} pt" for name, points in network.tried.items()) or "no other was tried"
        fewer = {name: bits for name, bits in network.bits.items() if bits < 8}
        return (
            f"{done} {len(made.quantised)} of {len(made.picks)} layers in 8 bits, calibrated on "
            f"{len(samples.calibration)} inputs.",
            f"Ranges by {network.rule} (divergence on held-out inputs: {tried}).",
            *_stored(Counter(fewer.values())),
        )
    done = f"Trained for {_epochs(learned.epochs)}" if learned.epochs else "No training was done: the grids as started"
    told = ", ".join(f"{count} at {bits}" for bits, count in sorted(Counter(learned.bits.values()).items()))
    notes = [f"{done}. Bits of weights: {told}, of {len(learned.bits)} layers."]
    products = sum(node.op_type == OPERATOR for node in learned.graph.graph.node)
    if stored := sum(bits < 8 for bits in learned.bits.values()) - products:
        notes.append(f"{stored} layers are {_EXECUTED_AT_8}")
    if products:
        notes.append(f"{products} linear layers are executed at their bits ({OPERATOR}); what they read is at 8.")
    return tuple(notes)


def _stored(counts: Mapping[int, int]) -> tuple[str, ...]:
    """The weights that have fewer than 8 bits; `counts`: layers by bits."""
    if not counts:
        return ()
    told = ", ".join(f"{count} at {bits} bits" for bits, count in sorted(counts.items()))
    return (f"Weights of {sum(counts.values())} layers ({told}) are {_EXECUTED_AT_8}",)


def without_training(refitted: Reconstructed | None) -> tuple[str, ...]:
    """What reconstruction did."""
    if refitted is None or not refitted.errors:
        return ()
    if not refitted.helped:
        return (
            f"Reconstruction was left out: fitted on {refitted.inputs} inputs, it moves {refitted.held_out[1]:.2f} pt "
            f"on held-out ones; without it {refitted.held_out[0]:.2f} pt move. More calibration inputs may help.",
        )
    before, after = (np.array(side) for side in zip(*refitted.errors.values(), strict=True))
    left = float(np.exp(np.log((after + _TINY) / (before + _TINY)).mean()))
    return (
        f"Reconstructed without training: {len(refitted.errors)} layers, one after the other, were fitted to what the "
        f"original writes there, on {refitted.inputs} inputs. The squared error of a layer's outputs is {left:.2f}x "
        "what it was (geometric mean over layers). On held-out inputs the divergence from the original is "
        f"{refitted.held_out[1]:.1f} pt, without it {refitted.held_out[0]:.1f} pt.",
    )


def _epochs(epochs: float) -> str:
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def reshaped(original: Original, pruned: Pruned | None) -> tuple[str, ...]:
    """What became of channels and kernels."""
    if pruned is None or not pruned.reshaped:
        return ()
    methods = dict.fromkeys(setting.method for own in pruned.reshaped.values() for setting in own)
    legal = tuple(f"{name}: {METHODS[name].CARD.legal}." for name in methods if METHODS[name].CARD.legal)
    return (*_fewer(original, pruned), *pruned.told, *legal)


def _fewer(original: Original, pruned: Pruned) -> tuple[str, ...]:
    """How many channels are gone."""
    before = {layer.name: layer.weight[0] for layer in original.layers if layer.weight}
    after = {layer.name: layer.weight[0] for layer in pruned.original.layers if layer.weight}
    fewer = [name for name in before if name in after and after[name] < before[name]]
    if not fewer:
        return ()
    macs = 1 - multiplications(pruned.original.layers, {}) / multiplications(original.layers, {})
    return (
        f"Channels: {sum(before.values()) - sum(after.values())} of {sum(before.values())} outputs are gone, in "
        f"{len(fewer)} layers; with them {100 * macs:.1f} % of the multiplications.",
    )


def zeroed(pruned: Pruned | None, empty: Mapping[str, float], device: Device) -> tuple[str, ...]:
    """What was set to zero, what the runtime makes of it, and what is to be known before it is shipped. `empty`: layer
    to its share of zeros."""
    if pruned is None or not empty:
        return ()
    layers = pruned.original.layers
    sizes = {first_call(layer.name, empty): layer.weights for layer in layers}
    gone = sum(share * sizes[name] for name, share in empty.items())
    left = multiplications(layers, empty) / multiplications(layers, {})
    methods = ", ".join(dict.fromkeys(setting.method for setting in pruned.settings.values()))
    done = f"while it trained ({methods})" if pruned.epochs else "in one shot, without training"
    if pruned.recovered:
        done = f"in one shot ({methods}) and reconstructed, then trained with the zeros held"
    if pruned.source:
        done = f"before ({methods}), as {pruned.source} has it"
    told = [
        f"Pruned {done}: "
        f"{100 * gone / sum(sizes[name] for name in empty):.1f} % of the weights of {len(empty)} layers are zero. They "
        f"are {100 * gone / sum(sizes.values()):.1f} % of all, in {100 * (1 - left):.1f} % of the multiplications."
    ]
    for feature in pruned.features:
        entry = device.verdict(feature)
        said = f"{entry.verdict}. {entry.note} ({entry.source})" if entry else "nobody has measured what it does."
        told.append(f"{device.runtime}, {feature}: {said}")
    used = dict.fromkeys(setting.method for setting in pruned.settings.values())
    told += [f"{name}: {METHODS[name].CARD.legal}." for name in used if METHODS[name].CARD.legal]
    return tuple(told)


def worse(receipt: Receipt) -> tuple[str, ...]:
    """Where dense 8 bits are smaller or faster than the file: never without a word."""
    notes = []
    dense = next((line for line in receipt.speedup if line.against == "int8"), None)
    if dense is not None and dense.high * _WORTH_A_WORD < 1:
        notes.append(f"Slower than the original in dense 8 bits: {dense.ratio:.2f}x its speed.")
    sizes = [line.size_bytes for line in receipt.baselines if line.name == "int8"]
    if sizes and receipt.subject.size_bytes > min(sizes):
        notes.append(
            f"Larger than the original in dense 8 bits: {receipt.subject.size_bytes} bytes against {min(sizes)}."
        )
    return tuple(notes)


def what(original: Original, samples: Samples, plan: Planned | None, compared: parity.Parity) -> tuple[str, ...]:
    """What was looked at before it was measured, and where it came from."""
    equal = 100 * min(edge.equal for edge in compared.edges) if compared.edges else 100.0
    notes = [
        f"Parity gate: {len(compared.edges)} edges, at least {equal:.2f} % of an edge's codes equal to the "
        f"fake-quantised model's; the whole network moves {compared.moved:.1f} pt from it.",
    ]
    if not original.trained:
        notes.append("The weights are random: speed is measured, quality is not.")
    elif samples.targets is None:
        notes.append(f"No labels: judged by divergence from the original on {len(samples.judgement)} inputs.")
    if plan is not None:
        notes += _planned(plan)
    return tuple(notes)


def _planned(plan: Planned) -> list[str]:
    proposal = plan.proposal
    taken = Counter(layer.pick.partition("@")[0] for layer in proposal.layers)
    told = ", ".join(f"{option} in {count}" for option, count in taken.most_common())
    notes = [f"Planned on {proposal.device['runtime']}: {told} of {len(proposal.layers)} layers.", *plan.told]
    if not proposal.met:
        notes.append(f"No plan meets the budget: {proposal.reason}. This is the closest one.")
    return notes


def rest(receipt: Receipt, plan: Planned | None) -> tuple[str, ...]:
    """What a budget would have to be that holds, where quality is missed."""
    lost = next((line for line in receipt.budget if line.limit == "quality" and line.met is False), None)
    if plan is None or lost is None or lost.got is None or plan.proposal.totals["loss"] <= 0:
        return ()
    # Points are lost about as squares of errors grow.
    allowed = plan.proposal.totals["loss"] * min(1.0, lost.asked / lost.got)
    where = propose(plan.settled.where, Budget(), allowed)
    if not where.met:
        return ("The price of the rest: no plan is expected to lose so little; training may (--epochs).",)
    return (
        f"The price of the rest: {lost.asked:+g} {lost.unit} can be expected at about "
        f"latency<={where.totals['latency']:.3g}ms on {where.device['runtime']}; training (--epochs) may do it here.",
    )
