"""What a fit of a network for point clouds is told of its inputs."""

from collections.abc import Mapping
from typing import Any

from shoestring.pipeline.original import Original
from shoestring.points.task import PointClassification


def point_task(original: Original) -> PointClassification:
    """Classification with the network's own preprocessing, or the usual one for inputs of points x 3."""
    return PointClassification(spec_of(original), original.labels, outputs=original.outputs)


def spec_of(original: Original) -> Mapping[str, Any]:
    """The zoo's spec, else what most published networks expect: mean at 0, farthest point at 1 (Qi et al. 2017)."""
    if original.preprocess is not None:
        return original.preprocess
    if len(original.input) == 2 and original.input[1] == 3:
        return {"kind": "points", "points": original.input[0], "centre": "mean", "scale": "sphere", "up": "y"}
    return {"kind": "tensor", "shape": list(original.input)}
