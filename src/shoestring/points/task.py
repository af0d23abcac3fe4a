"""Classification of point clouds as a Task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shoestring.deploy.preprocess import preprocess
from shoestring.pipeline.classification import Classification
from shoestring.pipeline.dataset import Dataset
from shoestring.points.data import load_clouds
from shoestring.points.demo import demo_shapes
from shoestring.points.training import TrainingClouds


class PointClassification(Classification):
    """Implements `core.task.Task` for point clouds."""

    def read(self, path: str | Path) -> Dataset:
        return load_clouds(path)

    def demo(self) -> Dataset:
        return demo_shapes()

    def network_input(self, spec: Mapping[str, Any], raw: np.ndarray) -> np.ndarray:
        """float32 [points, 3]."""
        return preprocess(spec, raw)

    def training(self, dataset: Dataset, seed: int) -> TrainingClouds:
        return TrainingClouds(dataset, self.preprocess, seed)
