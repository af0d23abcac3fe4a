"""What a fit or a receipt of an image network takes: its Task, the data the user named, Samples of both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoestring.core.errors import BadInput
from shoestring.image.dataset import Dataset
from shoestring.image.demo import demo_photographs
from shoestring.image.samples import samples
from shoestring.image.task import ImageClassification
from shoestring.pipeline.original import Original
from shoestring.pipeline.samples import Samples

# What most published image networks expect, when the model does not say: ImageNet's mean and deviation.
_USUAL = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def image_task(original: Original) -> ImageClassification:
    """Classification with the network's own preprocessing, or the usual one for inputs of 3xHxW."""
    return ImageClassification(spec_of(original), original.labels, outputs=_outputs(original))


def spec_of(original: Original) -> Mapping[str, Any]:
    """The zoo's spec, else the usual one for photographs, else tensors as they are."""
    if original.preprocess is not None:
        return original.preprocess
    if len(original.input) == 3 and original.input[0] == 3:
        height, width = original.input[1:]
        short = round(max(height, width) / 0.875)
        return {"kind": "image", "resize": short, "interpolation": "bilinear", "crop": [height, width], **_USUAL}
    return {"kind": "tensor", "shape": list(original.input)}


def labels(task: ImageClassification, dataset: Dataset) -> tuple[str, ...]:
    """Names of the network's outputs: its own, else the classes of data that name every output; else none."""
    names = tuple(task.labels) or dataset.names
    return names if len(names) == task.outputs and all(names) else ()


def load(data: str | Path | None, demo: bool, task: ImageClassification) -> Dataset:
    """The user's images, or the packaged photographs. Raises BadInput when both or neither are named."""
    if (data is None) == (not demo):
        raise BadInput("data: give --data DIR, or --demo for the photographs of installed packages (one of the two)")
    return task.match(demo_photographs()) if data is None else task.load(data)


def judged_samples(
    original: Original | None,
    data: str | Path | None,
    demo: bool,
    calibration: int,
    seed: int,
    fitted_on: Mapping[str, object] | None = None,
) -> Samples | None:
    """Samples to judge a finished file on, None when no data was named. The same split as `fit` with the same
    arguments, so that nothing is judged that was calibrated on. `fitted_on`: what the file tells of its data
    (`Samples.provenance`); of the same data nothing is judged that was trained on either. Raises BadInput when quality
    cannot be told."""
    if data is None and not demo:
        return None
    if original is None:
        raise BadInput("--data: quality is told against the original; add --original MODEL")
    task = image_task(original)
    dataset = load(data, demo, task)
    told = fitted_on or {}
    trained = bool(told.get("training") or told.get("held")) and told.get("sha256") == dataset.fingerprint
    if trained and "judged_sha256" in told:
        raise BadInput("--data: the file was trained on all of these images; give the ones that judged it, or others")
    if trained and seed != told.get("seed"):
        drawn = f"the file was trained on half of these images, drawn with seed {told.get('seed')}"
        raise BadInput(f"--seed: {drawn}; leave --seed {seed} out, to judge on the other half")
    return samples(dataset, task, calibration, seed, train=trained)


def _outputs(original: Original) -> int:
    """The length of the output's last axis."""
    shape = original.graph.graph.output[0].type.tensor_type.shape.dim
    return int(shape[-1].dim_value) if len(shape) == 2 else 0
