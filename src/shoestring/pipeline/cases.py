"""From a file on disk to a Case for the receipt: `.shoe` artifacts and plain `.onnx` files."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer
from shoestring.core.schema import one_line
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.dequantise import dequantise
from shoestring.deploy.inventory import inventory
from shoestring.deploy.normal_form import is_quantised
from shoestring.deploy.rewrite import fill_weights, lean, shapes, tidy
from shoestring.deploy.wire import parse_model
from shoestring.pipeline.files import opened, stored
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate, with_best_rule
from shoestring.pipeline.pruning import multiplications, pruned_layers, reshaped_layers, zeros
from shoestring.pipeline.receipt import Case
from shoestring.pipeline.samples import Samples


def case_of(path: str, device: Device, original: Original | None = None, samples: Samples | None = None) -> Case:
    """`original`: the network the file was made from, when it is at hand; without it a `.shoe` is measured against
    its stored graph with random weights, and a quantised `.onnx` against itself in floats. `samples` judge quality, and
    calibrate the dense 8-bit baseline. Raises BadInput, also when the original takes other inputs."""
    subject, stored, notes = _read(path, device.runtime)
    trained = False
    if original is not None:
        reference, trained = original.graph, original.trained
    elif stored is not None:
        reference = stored
        notes.append("The original is its stored graph with random weights: speed only (give --original for quality).")
    elif is_quantised(subject):
        reference = tidy(dequantise(subject))
        notes.append("The original is this file in floats, since the real one was not given (--original).")
    else:
        reference, trained = tidy(subject), True
    _require_same_input(subject, reference, f"{path}: its original")
    layers = inventory(reference)
    dense8 = _dense8(reference, layers, samples)
    if dense8 is None:
        notes.append("No dense 8-bit baseline: the network has no convolution or linear layer.")
    methods = shoe.read(path).provenance.get("methods") if path.endswith(".shoe") else None
    empty = zeros(subject, pruned_layers(methods))
    left = inventory(tidy(dequantise(subject))) if reshaped_layers(methods) else layers
    return Case(
        file=Path(path).name,
        subject=subject,
        original=reference,
        int8=dense8,
        size=shoe.size(shoe.read(path)) if path.endswith(".shoe") else Path(path).stat().st_size,
        device=device,
        layers=[layer.name for layer in layers if layer.weight],
        macs=(multiplications(layers, {}), multiplications(left, empty)),
        samples=samples,
        trained=trained,
        notes=tuple(notes),
    )


def against(case: Case, path: str) -> Case:
    """The case with another artifact among the baselines, under its file name. Raises BadInput when the two take
    different inputs."""
    other, _, _ = _read(path, runtimes.for_floats(case.device.runtime))  # tried where most files run
    _require_same_input(case.subject, other, path)
    others, name = case.others or {}, Path(path).name
    return replace(case, others={**others, path if name in others else name: other})


# Of the data of a fit: name in the manifest to its type.
_TOLD = {"sha256": str, "calibration": int, "training": int, "held": int, "seed": int, "judged_sha256": str}


def claims(path: str) -> Budget:
    """The budget that a `.shoe` was fitted to: what its receipt claims. Empty for other files."""
    if not path.endswith(".shoe"):
        return Budget()
    return Budget.parse(str(shoe.read(path).provenance.get("budget", "")))


def split_of(path: str) -> dict[str, Any]:
    """What a `.shoe` says of the data that it was fitted on, as far as it says it."""
    data = shoe.read(path).provenance.get("data") if path.endswith(".shoe") else None
    told = data if isinstance(data, Mapping) else {}
    return {name: told[name] for name, kind in _TOLD.items() if type(told.get(name)) is kind}


def _read(path: str, runtime: str) -> tuple[ModelProto, ModelProto | None, list[str]]:
    """The graph of a file, the stored original if it has one, and notes."""
    subject = _single(opened(stored(path), path, runtime), path)
    if not path.endswith(".shoe"):
        return subject, None, []
    artifact = shoe.read(path)
    notes = ["No training was done."] if artifact.provenance.get("epochs") == 0 else []
    original = None if artifact.original is None else _filled(artifact.original, path, runtime)
    return subject, original, notes


def _filled(weightless: bytes, path: str, runtime: str) -> ModelProto:
    """A stored original with made-up weights. Without them it would fail the checks, so they are filled in first."""
    try:
        data = lean(fill_weights(parse_model(weightless)))
    except (ValueError, BadInput) as error:
        raise BadInput(f"{path}: its stored original: {one_line(error)}") from None
    return _single(opened(data, path, runtimes.for_floats(runtime)), path)


def _single(model: ModelProto, path: str) -> ModelProto:
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise BadInput(f"{path}: one input and one output are needed to measure it")
    return model


def _require_same_input(subject: ModelProto, other: ModelProto, name: str) -> None:
    ours, theirs = (shapes(model)[model.graph.input[0].name] for model in (subject, other))
    if ours != theirs:
        raise BadInput(f"{name}: takes inputs {theirs} where {ours} are taken; they cannot be compared")


def _dense8(original: ModelProto, layers: tuple[Layer, ...], samples: Samples | None) -> ModelProto | None:
    """The original in dense 8 bits by the defaults. Without samples the ranges are those of noise: good for the
    baseline's speed, and for nothing else."""
    precisions = int8.precisions(layers)
    if not precisions:
        return None
    if samples is not None:
        return with_best_rule(calibrate(original, samples.calibration, precisions)).build()
    shape = shapes(original)[original.graph.input[0].name]
    return calibrate(original, [np.random.default_rng(0).standard_normal(shape, dtype=np.float32)], precisions).build()
