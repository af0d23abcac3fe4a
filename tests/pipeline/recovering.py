"""A program that `test_recovery.py` starts with torchrun: recovering.py FOLDER recovers a pruned network and writes, of
each process, what training began with (start-RANK.pt) and what came of it (end-RANK.onnx, empty where it only helped).
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from shoestring.pipeline import recovery
from shoestring.pipeline.following import follow
from shoestring.pipeline.original import resolve
from shoestring.pipeline.plan import steps
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

SHAPE = (3, 16, 16)
PICKS = {"2": "magnitude:4x1@50%", "0": "int8", "6": "int8"}


class Noise:
    """Twelve inputs without labels, in another order each epoch."""

    labelled = False

    def __init__(self, shape: tuple[int, ...] = (3, 32, 32)):
        self.shape = shape

    def __len__(self) -> int:
        return 12

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index in range(start, len(self) // batch):
            rng = np.random.default_rng([number, index])
            inputs = rng.standard_normal((batch, *self.shape)).astype(np.float32)[rank::world]
            yield inputs, np.full(len(inputs), -1)


def net() -> nn.Module:
    """A layer that has no bias and no batch norm, of which reconstruction makes one that has a bias."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)).eval()


def run(folder: Path) -> None:
    rank = os.environ.get("RANK", "0")

    def noted(original: Any, student: Any, applied: Any, *given: Any) -> bool:
        torch.save(applied.model.state_dict(), folder / f"start-{rank}.pt")
        return follow(original, student, applied, *given)

    recovery.follow = noted
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, *SHAPE)).astype(np.float32) for _ in range(16)]
    samples = replace(Samples(inputs[:8], inputs[8:]), training=Noise(SHAPE), provenance={"training": 12})
    request = Request(folder / "x.shoe", recipe=Recipe(epochs=1, batch=4), runtime="onnxruntime")
    original = resolve(f"{__file__}:net", input="x".join(map(str, SHAPE)))
    made = recovery.recover(original, samples, request, steps(PICKS), lambda *_: None)
    (folder / f"end-{rank}.onnx").write_bytes(b"" if made is None else made.subject.SerializeToString())


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]))
