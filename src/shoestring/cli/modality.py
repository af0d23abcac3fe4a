"""Which modality a network belongs to: the only place where the command line tells pictures from point clouds."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoestring.pipeline.classification import Classification
    from shoestring.pipeline.original import Original


def task_of(original: "Original") -> "Classification":
    """The Task for what the network's preprocessing makes its inputs of; without one, an input [n, 3] is a point cloud
    and any other a picture or a tensor."""
    if _takes_points(original):
        from shoestring.points.fitting import point_task  # loads what the verb needs

        return point_task(original)
    from shoestring.image.fitting import image_task

    return image_task(original)


def _takes_points(original: "Original") -> bool:
    if original.preprocess is not None:
        return bool(original.preprocess["kind"] == "points")
    return len(original.input) == 2 and original.input[1] == 3
