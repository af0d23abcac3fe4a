"""A program that `test_shaping.py` starts with torchrun: shaping_on.py FOLDER METHOD... makes a network of them and
writes, of each process, what came of it (made-RANK.onnx, empty where it only helped)."""

import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from shoestring.pipeline.asked import asked
from shoestring.pipeline.making import make
from shoestring.pipeline.original import resolve
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

RECOVERING = Path(__file__).with_name("recovering.py")
SHAPE = (3, 16, 16)


def run(folder: Path, methods: tuple[str, ...]) -> None:
    noise = runpy.run_path(str(RECOVERING), run_name="program")["Noise"]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, *SHAPE)).astype(np.float32) for _ in range(16)]
    samples = replace(Samples(inputs[:8], inputs[8:]), training=noise(SHAPE), provenance={"training": 12})
    recipe = Recipe(epochs=2 * len(methods), batch=4)
    request = Request(folder / "x.shoe", methods=methods, recipe=recipe, runtime="onnxruntime")
    original = resolve(f"{RECOVERING}:net", input="x".join(map(str, SHAPE)))
    made = make(original, samples, request, asked(original, methods, recipe), lambda *_: None)
    name = f"made-{os.environ.get('RANK', '0')}.onnx"
    (folder / name).write_bytes(b"" if made is None else made.subject.SerializeToString())


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), tuple(sys.argv[2:]))
