"""Methods that learn: the method at work on a copy of the network, trained to follow the original, as a graph."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from onnx import ModelProto

from shoestring.compress.method import Setting
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.deploy import matmul_nbits
from shoestring.deploy.export import export
from shoestring.deploy.learned import realise
from shoestring.graph.masks import hold
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.original import Original
from shoestring.pipeline.pruning import Pruned
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import milliseconds
from shoestring.train.recipe import Recipe

# Of weight decay at so few bits, as a share: rounding regularises already (arXiv 1902.08153, section 3.3).
_DECAY = {2: 0.25, 3: 0.5}
_SLOWER = 1.05  # what low-bit products, which take less memory, may cost in time
_RATE_8 = 0.1  # of the learning rate, where nothing is below 8 bits (the same section)


@dataclass(frozen=True)
class Learned:
    """`graph`: in the normal form, empty where not `leader`: of several processes one goes on to measure and write.
    `bits`: layer to the bits of its weights; `pairs`: those whose codes must suit products added in 16 bits
    (`core.precision`, safe16). `epochs`: trained for, 0 when the grids are as they started."""

    graph: ModelProto
    bits: Mapping[str, int]
    epochs: float = 0.0
    leader: bool = True
    pairs: frozenset[str] = frozenset()


def learn(  # noqa: PLR0913 - a stage of `fit`, handed what the stages before made
    original: Original,
    pruned: Pruned | None,
    samples: Samples,
    method: ModuleType,
    settings: Mapping[str, Setting],
    recipe: Recipe | None,
    folder: Path,
    report: Progress,
) -> Learned:
    """Applies `method` to the original, or to what is left of it after pruning, whose zeros stay; starts its grids from
    the calibration inputs, trains by `recipe` (None: not at all) to follow the original, and exports what came of it. A
    run that was stopped goes on from the checkpoint in `folder`. Raises BadInput when there is no torch model, nothing
    to train on, or `folder` holds another run."""
    student = (pruned.original if pruned else original).model
    if original.model is None or student is None:
        raise BadInput(
            f"{original.name}: {method.CARD.name} trains, and an .onnx file cannot be trained; give the torch model as "
            "module:factory, or use --method int8"
        )
    report("starting the grids", 0.0)
    applied = method.apply(student, settings)
    hold(applied.model, pruned.masks if pruned else {})
    applied.settle(samples.calibration)
    report("starting the grids", 1.0)
    bits = {name: precision.weights for name, precision in applied.precisions.items()}
    epochs = (recipe.epochs if recipe else 0.0) + (pruned.epochs if pruned else 0.0)
    if recipe is not None:
        told = {name: str(setting) for name, setting in settings.items()}
        fitted = fitting(recipe, bits)
        if not follow(original, student, applied, samples, fitted, Place(folder, told), report):
            return Learned(ModelProto(), bits, epochs, leader=False)
    report("exporting", 0.0)
    graph = realise(export(applied.bake(), original.input), applied.grids)
    report("exporting", 1.0)
    pairs = frozenset(name for name, precision in applied.precisions.items() if precision.safe16)
    return Learned(graph, bits, epochs, pairs=pairs)


def lowered(learned: Learned, device: Device) -> ModelProto:
    """The graph for `device`: linear layers of 4 bits or fewer as low-bit products, unless its runtime has none,
    refuses them on this processor, or takes longer with them than with 8 bits."""
    low = matmul_nbits.lower(learned.graph, learned.bits, device.runtime)
    if not any(node.op_type == matmul_nbits.OPERATOR for node in low.graph.node):
        return learned.graph
    forms = {"low": (low, device.runtime), "dense": (learned.graph, device.runtime)}
    try:
        times = milliseconds(forms, device.threads)
    except BadInput:  # OpenVINO has no product of 2 bits on processors that compute in bfloat16
        return learned.graph
    return low if times["low"] <= _SLOWER * times["dense"] else learned.graph


def fitting(recipe: Recipe, bits: Mapping[str, int]) -> Recipe:
    """`recipe` with the learning rate and the weight decay that the fewest bits of any layer ask for."""
    least = min(bits.values())
    rate = recipe.lr * (_RATE_8 if least == 8 else 1.0)
    return replace(recipe, lr=rate, weight_decay=recipe.weight_decay * _DECAY.get(least, 1.0))
