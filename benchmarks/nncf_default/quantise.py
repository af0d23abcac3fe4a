"""NNCF's post-training quantisation with all its defaults. `int8_bars.py` runs this in an environment of its own.

    python quantise.py FLOAT.onnx CALIBRATION.npy OUT...

CALIBRATION: float32 [n, C, H, W]. An OUT that ends in .onnx is made by NNCF's ONNX backend, one in .xml by its OpenVINO
backend.
"""

import sys
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino


def main(source: str, calibration: str, *targets: str) -> None:
    inputs = np.load(calibration)[:, None]  # one [1, C, H, W] each
    for target in targets:
        if Path(target).suffix == ".onnx":
            model = onnx.load(source)
            name = model.graph.input[0].name
            onnx.save(nncf.quantize(model, nncf.Dataset(inputs, lambda x, name=name: {name: x})), target)
        else:
            quantised = nncf.quantize(openvino.Core().read_model(source), nncf.Dataset(inputs))
            openvino.save_model(quantised, target, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
