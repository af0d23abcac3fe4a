"""Explain: before any training, what each method would really do to each layer here, with the measured cost."""

from collections.abc import Callable

import numpy as np

from shoestring.compress import METHODS, int8, magnitude
from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, Device
from shoestring.core.explanation import UNKNOWN, Effect, ExplainedLayer, Explanation
from shoestring.core.layer import LINEAR, Layer
from shoestring.deploy import runtimes
from shoestring.measure.machine import pinned
from shoestring.pipeline import sparsity
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.table import FLOAT, LatencyTable, latency_table

# An 8-bit layer that is not at least this much faster is not called faster.
WORTH = 0.97
LOW = "w4a4"  # the bits that stand for all below 8
_MEASURED = "measured in the whole network"
N_OF_M = "2:4"
# A setting that stands for each pattern, and what the contract calls its zeros.
_PATTERNS = {"1x1@80%": "unstructured zeros", "4x1@80%": "block zeros", N_OF_M: "N:M zeros"}


def explain(original: Original, device: Device, progress: Callable[[str, float], object] | None = None) -> Explanation:
    """Times the network in fp32 and in 8 bits on `device`, layer by layer. The 8-bit network is calibrated on noise:
    good for speed, and for nothing else."""
    report = progress or (lambda stage, share: None)
    precisions = int8.precisions(original.of_kinds(int8.CARD.kinds))
    noise = [np.random.default_rng(seed).standard_normal((1, *original.input), dtype=np.float32) for seed in range(4)]
    report("building the 8-bit network", 0.0)
    variants = {FLOAT: original.graph, int8.CARD.name: calibrate(original.graph, noise, precisions).build()}
    if device.runtime not in runtimes.STOCK:  # which multiply by zeros as by any other number
        variants |= sparsity.variants(original, noise, precisions)
        for pattern in sparsity.OTHERS:
            variants |= sparsity.variants(original, noise, precisions, (sparsity.OTHER_LEVEL,), pattern)
    with pinned(device.threads):
        table = latency_table(
            variants,
            [layer.name for layer in original.layers],
            device,
            progress=lambda share: report("latency table", share),
        )
    layers = tuple(
        ExplainedLayer(layer, table.layers[layer.name][FLOAT], _effects(layer, layer.name in precisions, table, device))
        for layer in original.layers
    )
    totals = {"original" if option == FLOAT else option: ms for option, ms in table.totals.items()}
    return Explanation(original.name, device.to_json(), layers, totals, _notes(original, device))


def _effects(layer: Layer, takes: bool, table: LatencyTable, device: Device) -> tuple[Effect, ...]:
    if not takes:
        return ()
    before, after = table.layers[layer.name][FLOAT], table.layers[layer.name][int8.CARD.name]
    faster = after <= WORTH * before
    note = "" if faster else "not faster than fp32 here"
    measured = Effect(int8.CARD.name, "", RUNS if faster else SLOWER, after, note, _MEASURED)
    return (measured, _low_bits(layer, after, device), *_zeros(layer, table, device))


def _zeros(layer: Layer, table: LatencyTable, device: Device) -> tuple[Effect, ...]:
    """Zeros in each pattern, whichever method makes them: their time where the runtime leaves them out, else what its
    contract says."""
    dense, needs = table.layers[layer.name][int8.CARD.name], "needs training or reconstruction"
    measured = [option for option in table.layers[layer.name] if option.startswith(magnitude.CARD.name)]
    found = [
        Effect("magnitude", option.partition(":")[2], RUNS if ms <= WORTH * dense else NO_EFFECT, ms, needs, _MEASURED)
        for option in measured
        for ms in [table.layers[layer.name][option]]
    ]
    for setting, feature in _PATTERNS.items():
        said = device.verdict(feature)
        if said is not None and (not measured or setting == N_OF_M):
            found.append(Effect("magnitude", setting, said.verdict, dense, said.note, said.source))
    return tuple(found)


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
        "block zeros, 2:4 N:M zeros. A channel that is gone is gone on every runtime.",
    )
    random = () if original.trained else ("The weights are random; times do not depend on that.",)
    return (*random, *patterns, *legal, *contract)
