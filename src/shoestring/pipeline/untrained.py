"""What no training has made up for: which layers are reconstructed, after what, on which inputs, and if it helped."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import ModelProto

from shoestring.compress.reconstruct.layer import Asked, damping
from shoestring.core.quality import distance
from shoestring.deploy.weights import weights
from shoestring.pipeline.learned import Learned
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import EightBit, outputs
from shoestring.pipeline.pruning import Pruned
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.reconstruct import Reconstructed, reconstruct
from shoestring.pipeline.samples import Samples

RUNTIME = "onnxruntime"
_SPARSE = 0.02  # a share of zeros; fewer are an accident, and may become something else


def made_up(  # noqa: PLR0913 - a stage of `fit`, handed what the stages before made
    subject: ModelProto,
    original: Original,
    pruned: Pruned | None,
    network: EightBit,
    learned: Learned | None,
    layers: Collection[str],
    samples: Samples,
    folder: Path,
    report: Progress,
) -> Reconstructed:
    """`subject` with its quantised `layers` reconstructed, led by the float network that was quantised; by the one
    before it where that was pruned in one shot. `network`, `learned`: what decided on bits. Calibration inputs that
    `network` holds out say whether the outcome is kept."""
    student = original.graph if pruned is None else pruned.original.graph
    leader = student if pruned is None or pruned.dense is None else pruned.dense
    patterns = {} if pruned is None else pruned.patterns
    bits = network.bits if learned is None else learned.bits
    pairs = {name for name, p in network.precisions.items() if p.safe16} if learned is None else learned.pairs
    kept = {name: value != 0 for name, value in weights(student).items() if name in layers}
    kept = {name: keep for name, keep in kept.items() if 1 - keep.mean() >= _SPARSE}
    held = network.held_out
    sums = {layer.name for layer in (original if pruned is None else pruned.original).layers if layer.fixed}
    inputs = samples.calibration[len(held) :] or samples.calibration
    asked = {
        name: Asked(width, name in pairs, patterns.get(name) if name in kept else None, damping(len(inputs)))
        for name, width in bits.items()
        if name in layers and name not in sums
    }
    made = reconstruct(leader, subject, asked, kept, inputs, folder, report, student)
    return better(made, subject, leader, held)


def better(made: Reconstructed, raw: ModelProto, original: ModelProto, inputs: Sequence[np.ndarray]) -> Reconstructed:
    """`made`, or `raw` when that is closer to the original on `inputs`, to which nothing was fitted: by more than the
    standard error of the difference, for a few inputs say little, and every layer was brought closer on others."""
    expected = outputs(original, RUNTIME, inputs)
    before, after = (100 * distance(outputs(graph, RUNTIME, inputs), expected)[1] for graph in (raw, made.graph))
    worse = after - before
    noise = float(worse.std(ddof=1)) / len(worse) ** 0.5 if len(worse) > 1 else 0.0
    helped = bool(worse.mean() <= noise)
    told = float(before.mean()), float(after.mean())
    return replace(made, graph=made.graph if helped else raw, held_out=told, helped=helped)
