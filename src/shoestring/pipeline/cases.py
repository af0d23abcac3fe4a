"""From a file on disk to a Case for the receipt: `.shoe` artifacts and plain `.onnx` files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.core.layer import DEPTHWISE, Layer
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.check import check_graph, first_load
from shoestring.deploy.dequantise import dequantise
from shoestring.deploy.inventory import inventory
from shoestring.deploy.normal_form import is_quantised
from shoestring.deploy.rewrite import OPSET, fill_weights, infer, tidy
from shoestring.deploy.versions import to_opset
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.receipt import Case


def case_of(path: str, device: Device, original: Original | None = None) -> Case:
    """`original`: the network the file was made from, when it is at hand; without it a `.shoe` is measured against
    its stored graph with random weights, and a quantised `.onnx` against itself in floats. Raises BadInput."""
    subject, stored, notes = _read(path, device.runtime)
    trained = original is not None
    if original is not None:
        reference = original.graph
    elif stored is not None:
        reference = stored
        notes.append("The original is its stored graph with random weights: speed only (give --original for quality).")
    elif is_quantised(subject):
        reference = tidy(dequantise(subject))
        notes.append("The original is this file in floats, since the real one was not given (--original).")
    else:
        reference, trained = tidy(subject), True
    layers = inventory(reference)
    dense8 = _dense8(reference, layers)
    if dense8 is None:
        notes.append("No dense 8-bit baseline: the network has no convolution or linear layer.")
    macs = sum(layer.macs for layer in layers)
    return Case(
        file=Path(path).name,
        subject=subject,
        original=reference,
        int8=dense8,
        size=Path(path).stat().st_size,
        device=device,
        layers=[layer.name for layer in layers if layer.weight],
        macs=(macs, macs),
        trained=trained,
        notes=tuple(notes),
    )


def against(case: Case, path: str) -> Case:
    """The case with another artifact among the baselines, under its file name. Raises BadInput when the two take
    different inputs."""
    other, _, _ = _read(path, case.device.runtime)
    shapes = [
        tuple(axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim)
        for model in (case.subject, other)
    ]
    if shapes[0] != shapes[1]:
        raise BadInput(f"{path}: takes inputs {shapes[1]}, {case.file} takes {shapes[0]}; they cannot be compared")
    return replace(case, others={**(case.others or {}), Path(path).name: other})


def claims(path: str) -> Budget:
    """The budget that a `.shoe` was fitted to: what its receipt claims. Empty for other files."""
    if not path.endswith(".shoe"):
        return Budget()
    return Budget.parse(str(shoe.read(path).provenance.get("budget", "")))


def usable_runtime(path: str) -> str:
    """The runtime that a `.shoe` was measured on, when it is installed here; else onnxruntime."""
    measured = shoe.read(path).points[0].measured.get("runtime") if path.endswith(".shoe") else None
    return str(measured) if measured in runtimes.installed() else "onnxruntime"


def _read(path: str, runtime: str) -> tuple[ModelProto, ModelProto | None, list[str]]:
    """The graph of a file, the stored original if it has one, and notes."""
    if path.endswith(".shoe"):
        artifact = shoe.read(path)
        data, stored = artifact.onnx(), artifact.original
        notes = ["No training was done."] if artifact.provenance.get("epochs") == 0 else []
        original = None if stored is None else infer(fill_weights(check_graph(stored, path)))
    elif path.endswith(".onnx"):
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
        original, notes = None, []
    else:
        raise BadInput(f"{path}: is neither a .shoe nor an .onnx file")
    check_graph(data, path)
    first_load(data, path, runtime)
    model = onnx.load_from_string(data)
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise BadInput(f"{path}: one input and one output are needed to measure it")
    if path.endswith(".onnx"):
        model = to_opset(model, OPSET)
    return infer(model), original, notes


def _dense8(original: ModelProto, layers: tuple[Layer, ...]) -> ModelProto | None:
    """The original in dense 8 bits by the defaults (min-max of noise): the baseline's speed, not its quality."""
    setting = int8.parse("")
    precisions = {
        layer.name: int8.precision(layer.kind == DEPTHWISE, setting)
        for layer in layers
        if layer.kind in int8.CARD.kinds
    }
    if not precisions:
        return None
    shape = tuple(axis.dim_value for axis in original.graph.input[0].type.tensor_type.shape.dim)
    return calibrate(original, [np.random.default_rng(0).standard_normal(shape, dtype=np.float32)], precisions).build()
