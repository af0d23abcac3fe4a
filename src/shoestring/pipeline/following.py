"""Training as all methods use it: the network under way follows the original, with checkpoints that name the run."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shoestring.compress.method import Applied
from shoestring.core.errors import BadInput
from shoestring.pipeline.original import Original
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.samples import Samples
from shoestring.train.loop import train
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks


@dataclass(frozen=True)
class Place:
    """Where a run keeps its checkpoint, and the settings (layer to text) that make it this run."""

    folder: Path
    settings: Mapping[str, str]


def follow(  # noqa: PLR0913 - the flow of `fit` hands over everything here
    original: Original,
    student: nn.Module,
    applied: Applied,
    samples: Samples,
    recipe: Recipe,
    place: Place,
    report: Progress,
    watch: Callable[[float], object] | None = None,
) -> bool:
    """Trains `applied`, made of `student`, to follow the original. `watch`: called after each step with the share of
    the run that is done, before the method changes what was trained. Whether this process goes on to export: of
    several, only the first does. Raises BadInput."""
    if samples.training is None:
        raise BadInput("--epochs: there is nothing to train on; give --data DIR")

    def step(progress: float) -> None:
        if watch:
            watch(progress)
        applied.on_step(progress)

    def shown(stage: str, share: float) -> None:
        status = applied.status()
        report(f"{stage}, {status}" if status else stage, share)

    trained = train(
        applied.model,
        samples.training,
        recipe,
        Hooks(applied.penalty, step, applied.freeze, applied.undecayed()),
        teacher=original.model if recipe.distil else None,
        folder=place.folder,
        identity={
            "network": digest(student),
            "settings": dict(place.settings),
            "data": dict(samples.provenance or {}),
        },
        progress=shown,
    )
    return trained.leader


def digest(model: nn.Module) -> str:
    """Of the names and values of a network: a checkpoint of another one must not be continued."""
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        weights.update(name.encode())
        flat = tensor.detach().cpu().reshape(-1).contiguous()  # whose only stride is 1, whatever those of ones were
        weights.update(flat.view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return weights.hexdigest()
