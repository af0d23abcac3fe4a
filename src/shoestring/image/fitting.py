"""What a fit of an image network is told of its inputs."""

from collections.abc import Mapping
from typing import Any

from shoestring.image.task import ImageClassification
from shoestring.pipeline.original import Original

# What most published image networks expect, when the model does not say: ImageNet's mean and deviation.
_USUAL = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def image_task(original: Original) -> ImageClassification:
    """Classification with the network's own preprocessing, or the usual one for inputs of 3xHxW."""
    return ImageClassification(spec_of(original), original.labels, outputs=original.outputs)


def spec_of(original: Original) -> Mapping[str, Any]:
    """The zoo's spec, else the usual one for photographs, else tensors as they are."""
    if original.preprocess is not None:
        return original.preprocess
    if len(original.input) == 3 and original.input[0] == 3:
        height, width = original.input[1:]
        short = round(max(height, width) / 0.875)
        return {"kind": "image", "resize": short, "interpolation": "bilinear", "crop": [height, width], **_USUAL}
    return {"kind": "tensor", "shape": list(original.input)}
