"""Methods that learn: the method at work on a copy of the network, trained to follow the original, as a graph."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
from onnx import ModelProto

from shoestring.compress.method import Setting
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.deploy import matmul_nbits
from shoestring.deploy.export import export
from shoestring.deploy.learned import realise
from shoestring.pipeline.original import Original
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import milliseconds
from shoestring.train.loop import train
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks

# Of weight decay at so few bits, as a share: rounding regularises already (arXiv 1902.08153, section 3.3).
_DECAY = {2: 0.25, 3: 0.5}
_SLOWER = 1.05  # what low-bit products, which take less memory, may cost in time
_RATE_8 = 0.1  # of the learning rate, where nothing is below 8 bits (the same section)


@dataclass(frozen=True)
class Learned:
    """`graph`: in the normal form, empty where not `leader`: of several processes one goes on to measure and write.
    `bits`: layer to the bits of its weights. `epochs`: trained for, 0 when the grids are as they started."""

    graph: ModelProto
    bits: Mapping[str, int]
    epochs: float = 0.0
    leader: bool = True


def learn(  # noqa: PLR0913 - a stage of `fit`, handed what the stages before made
    original: Original,
    samples: Samples,
    method: ModuleType,
    settings: Mapping[str, Setting],
    recipe: Recipe | None,
    folder: Path,
    report: Progress,
) -> Learned:
    """Applies `method`, starts its grids from the calibration inputs, trains by `recipe` (None: not at all), and
    exports what came of it. A run that was stopped goes on from the checkpoint in `folder`. Raises BadInput when there
    is no torch model, nothing to train on, or `folder` holds another run."""
    if original.model is None:
        raise BadInput(
            f"{original.name}: {method.CARD.name} trains, and an .onnx file cannot be trained; give the torch model as "
            "module:factory, or use --method int8"
        )
    report("starting the grids", 0.0)
    applied = method.apply(original.model, settings)
    applied.settle(samples.calibration)
    report("starting the grids", 1.0)
    bits = {name: precision.weights for name, precision in applied.precisions.items()}
    leader = True
    if recipe is not None:
        if samples.training is None:
            raise BadInput("--epochs: there is nothing to train on; give --data DIR")
        trained = train(
            applied.model,
            samples.training,
            _fitting(recipe, bits),
            Hooks(applied.penalty, applied.on_step, applied.freeze),
            teacher=original.model if recipe.distil else None,
            folder=folder,
            identity=_identity(original, samples, settings),
            progress=report,
        )
        leader = trained.leader
    epochs = recipe.epochs if recipe else 0.0
    if not leader:
        return Learned(ModelProto(), bits, epochs, leader)
    report("exporting", 0.0)
    graph = realise(export(applied.bake(), original.input), applied.grids)
    report("exporting", 1.0)
    return Learned(graph, bits, epochs)


def lowered(learned: Learned, device: Device) -> ModelProto:
    """The graph for `device`: linear layers of 4 bits or fewer as low-bit products, unless its runtime has none or
    takes longer with them than with 8 bits."""
    low = matmul_nbits.lower(learned.graph, learned.bits, device.runtime)
    if not any(node.op_type == matmul_nbits.OPERATOR for node in low.graph.node):
        return learned.graph
    forms = {"low": (low, device.runtime), "dense": (learned.graph, device.runtime)}
    times = milliseconds(forms, device.threads)
    return low if times["low"] <= _SLOWER * times["dense"] else learned.graph


def _fitting(recipe: Recipe, bits: Mapping[str, int]) -> Recipe:
    """`recipe` with the learning rate and the weight decay that the fewest bits of any layer ask for."""
    least = min(bits.values())
    rate = recipe.lr * (_RATE_8 if least == 8 else 1.0)
    return replace(recipe, lr=rate, weight_decay=recipe.weight_decay * _DECAY.get(least, 1.0))


def _identity(original: Original, samples: Samples, settings: Mapping[str, Setting]) -> dict[str, object]:
    """What makes a run this run: a checkpoint of another one must not be continued."""
    assert original.model is not None, "asked above"
    weights = hashlib.sha256()
    for name, tensor in original.model.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return {
        "network": weights.hexdigest(),
        "settings": {name: str(setting) for name, setting in settings.items()},
        "data": dict(samples.provenance or {}),
    }
