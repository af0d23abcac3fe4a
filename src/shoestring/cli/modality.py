"""Which modality a network belongs to: the only place where the command line tells pictures from point clouds."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoestring.pipeline.classification import Classification
    from shoestring.pipeline.dataset import Dataset
    from shoestring.pipeline.original import Original


def task_of(original: "Original") -> "Classification":
    """The Task for what the network's preprocessing makes its inputs of; without one, an input [n, 3] is a point cloud
    and any other a picture or a tensor."""
    if _takes_points(original):
        from shoestring.points.fitting import point_task  # loads what the verb needs

        return point_task(original)
    from shoestring.image.fitting import image_task

    return image_task(original)


def with_data(original: "Original", data: str | Path | None, demo: bool) -> "tuple[Original, Classification, Dataset]":
    """The network, what it does, and the data. An untrained network of the zoo that makes any number of classes is made
    anew with as many as the data have. Raises BadInput."""
    from shoestring.models.zoo import ZOO
    from shoestring.pipeline.drawing import load
    from shoestring.pipeline.original import resolve

    task, known = task_of(original), ZOO.get(original.name)
    if original.trained or known is None or not known.outputs:
        return original, task, load(data, demo, task)
    dataset = load(data, demo, replace(task, outputs=0))
    highest = max((target for target in dataset.targets if target is not None), default=-1)
    classes = len(dataset.names) or max(original.outputs, highest + 1)
    if highest >= 0 and classes != original.outputs:
        original = resolve(original.name, classes=classes)
        task = task_of(original)
    return original, task, dataset


def _takes_points(original: "Original") -> bool:
    if original.preprocess is not None:
        return bool(original.preprocess["kind"] == "points")
    return len(original.input) == 2 and original.input[1] == 3
