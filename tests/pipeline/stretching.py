"""A program that `test_elastic_training.py` starts with torchrun: stretching.py FOLDER METHOD... trains an elastic
network of `tests/tiny.py` with methods beside it and writes, of each process, what came of it (RANK.pt).
"""

import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shoestring.pipeline import elastic_training
from shoestring.pipeline.original import resolve
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

HERE = Path(__file__).parent
TINY = f"{HERE.with_name('tiny.py')}:tiny"
Noise: Any = runpy.run_path(str(HERE / "recovering.py"), run_name="program")["Noise"]


def run(folder: Path, methods: tuple[str, ...]) -> None:
    made: list[Any] = []
    beside = elastic_training.beside

    def noted(*given: Any, **more: Any) -> Any:
        made.append(beside(*given, **more))
        return made[-1]

    elastic_training.beside = noted
    inputs = [np.random.default_rng(index).standard_normal((1, 3, 32, 32)).astype(np.float32) for index in range(8)]
    samples = replace(Samples(inputs, inputs), training=Noise(), provenance={"training": 12})
    recipe = Recipe(epochs=2, batch=4, lr=0.02)
    request = Request(folder / "x.shoe", ladder=3, slim="w=0.5,1:d=1:r=1", methods=methods, recipe=recipe)
    found = elastic_training.trained(resolve(TINY, input="3x32x32"), samples, request, lambda *_: None)
    told = {"leads": found is not None, "state": made[-1].model.state_dict()}
    torch.save(told, folder / f"{os.environ.get('RANK', '0')}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), tuple(sys.argv[2:]))
