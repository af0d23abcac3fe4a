"""Image classification as a Task."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import preprocess
from shoestring.image.data import load_images
from shoestring.image.dataset import Raw
from shoestring.image.demo import demo_photographs
from shoestring.pipeline.classification import Classification
from shoestring.pipeline.dataset import Dataset

if TYPE_CHECKING:
    from shoestring.image.training import TrainingImages


class ImageClassification(Classification):
    """Implements `core.task.Task` for photographs."""

    def read(self, path: str | Path) -> Dataset:
        return load_images(path)

    def demo(self) -> Dataset:
        return demo_photographs()

    def network_input(self, spec: Mapping[str, Any], raw: Raw) -> np.ndarray:
        return network_input(spec, raw)

    def training(self, dataset: Dataset, seed: int) -> "TrainingImages":
        from shoestring.image.training import TrainingImages  # which takes network_input from here

        return TrainingImages(dataset, self.preprocess, seed)


def batches(dataset: Dataset, spec: Mapping[str, Any], batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(float32 [b, C, H, W], targets int64 [b], -1 where there is none) in order, b = `batch` but for the last.

    `spec`: the task's `preprocess`. Raises BadInput when `batch` is below 1 or an image cannot be decoded.
    """
    if batch < 1:
        raise BadInput(f"batch: {batch} images at once; give at least 1")
    for start in range(0, len(dataset), batch):
        pairs = [dataset[index] for index in range(start, min(start + batch, len(dataset)))]
        inputs = np.stack([network_input(spec, raw) for raw, _ in pairs])
        yield inputs, np.array([-1 if target is None else target for _, target in pairs], dtype=np.int64)


def network_input(spec: Mapping[str, Any], raw: Raw) -> np.ndarray:
    """float32 [C, H, W]. An array of floats already is one: its shape is checked and nothing else is done."""
    if isinstance(raw, np.ndarray) and raw.dtype == np.float32 and spec["kind"] == "image":
        spec = {"kind": "tensor", "shape": [3, *spec["crop"]]}
    return preprocess(spec, raw)
