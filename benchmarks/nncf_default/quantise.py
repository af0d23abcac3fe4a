"""NNCF's post-training quantisation, with all its defaults unless told otherwise. `int8_bars.py` and `reconstruct.py`
run this in an environment of its own.

    python quantise.py FLOAT.onnx CALIBRATION.npy [--bias-correction | --labels LABELS.npy] OUT...

CALIBRATION: float32 [n, C, H, W]. An OUT that ends in .onnx is made by NNCF's ONNX backend, one in .xml by its OpenVINO
backend. `--bias-correction`: the exact one instead of the fast one. `--labels` (int [n]): accuracy control, at most
one point of top-1 lost on the calibration inputs; for OpenVINO.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("calibration")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--bias-correction", action="store_true")
    parser.add_argument("--labels")
    given = parser.parse_args()
    inputs = np.load(given.calibration)[:, None]  # one [1, C, H, W] each
    how = {"fast_bias_correction": not given.bias_correction}
    for target in given.targets:
        if Path(target).suffix == ".onnx":
            model = onnx.load(given.source)
            name = model.graph.input[0].name
            onnx.save(nncf.quantize(model, nncf.Dataset(inputs, lambda x, name=name: {name: x}), **how), target)
            continue
        model = openvino.Core().read_model(given.source)
        if given.labels:
            quantised = controlled(model, inputs, np.load(given.labels))
        else:
            quantised = nncf.quantize(model, nncf.Dataset(inputs), **how)
        openvino.save_model(quantised, target, compress_to_fp16=False)


def controlled(model: openvino.Model, inputs: np.ndarray, labels: np.ndarray) -> openvino.Model:
    pairs = nncf.Dataset(list(zip(inputs, labels, strict=True)), lambda pair: pair[0])
    labelled = nncf.Dataset(list(zip(inputs, labels, strict=True)))
    return nncf.quantize_with_accuracy_control(model, pairs, labelled, validation_fn=top1, max_drop=0.01)


def top1(compiled: openvino.CompiledModel, pairs: Iterable[tuple[np.ndarray, int]]) -> float:
    return float(np.mean([compiled(x)[0].argmax() == label for x, label in pairs]))


if __name__ == "__main__":
    main()
