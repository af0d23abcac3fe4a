"""Making: methods applied one after the other, trained or reconstructed, as a graph in the normal form."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx import ModelProto

from shoestring.compress import int8
from shoestring.compress.method import Setting
from shoestring.core.device import Device
from shoestring.core.errors import NoEffectWarning
from shoestring.core.proposal import UNCHANGED
from shoestring.core.receipt import Quality
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.device import here
from shoestring.pipeline.learned import Learned, learn, lowered
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import EightBit, eight_bit
from shoestring.pipeline.pruning import Pruned
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.reconstruct import Reconstructed
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.shaping import Shaping, shape
from shoestring.pipeline.stopwatch import fastest
from shoestring.pipeline.untrained import made_up
from shoestring.train.recipe import Recipe


@dataclass(frozen=True)
class Made:
    """What came of methods. `subject`: the graph to ship; `device`: where it runs; `dense`: the original in 8 bits;
    `network`: what is left of it, calibrated; `settings`: of each layer, as the method for bits has them; `raw`: the
    subject before reconstruction, None where there was none."""

    subject: ModelProto
    device: Device
    dense: EightBit
    network: EightBit
    settings: Mapping[str, Setting]
    pruned: Pruned | None = None
    learned: Learned | None = None
    refitted: Reconstructed | None = None
    raw: ModelProto | None = None
    judged: Quality | None = None

    @property
    def picks(self) -> dict[str, str]:
        """Layer to what became of it, UNCHANGED for one that stays in fp32."""
        if self.learned is not None:
            return {name: str(setting) for name, setting in self.settings.items()}
        return {name: int8.CARD.name if name in self.network.precisions else UNCHANGED for name in self.settings}

    @property
    def quantised(self) -> set[str]:
        """The layers that do not stay in fp32."""
        return {name for name, pick in self.picks.items() if pick != UNCHANGED}


def make(
    original: Original,
    samples: Samples,
    request: Request,
    asked: Sequence[Asked],
    report: Progress,
    dense: EightBit | None = None,
) -> Made | None:
    """Applies `asked`. `dense`: the original in 8 bits by default settings, where it is there already. None in a
    process that only helped to train. Warns NoEffectWarning when nothing changes. Raises BadInput as the methods
    do."""
    *shaping, bits = asked
    request = replace(request, recipe=_share(request.recipe, asked))
    pruned = None
    if shaping or request.start is not None:
        places = request.checkpoints, request.trail, request.start
        way = Shaping(request.recipe, *places, request.runtime, request.threads, request.reconstruct)
        pruned = shape(original, samples, shaping, bits.method.CARD.trains, way, report)
        if pruned is None:
            return None
    return finish(original, samples, request, bits, pruned, report, dense)


def finish(  # noqa: PLR0913 - a stage of `fit`, handed what the stages before made
    original: Original,
    samples: Samples,
    request: Request,
    bits: Asked,
    pruned: Pruned | None,
    report: Progress,
    dense: EightBit | None = None,
) -> Made | None:
    """Decides on the bits of what is left of the original, trains or reconstructs them, and builds what is shipped. As
    `make`."""
    method = bits.method
    settings = bits.settings(pruned.original if pruned else original)

    learned = None
    if method.CARD.trains:
        folder = request.checkpoints / method.CARD.name
        learned = learn(original, pruned, samples, method, settings, request.recipe, folder, report)
        if not learned.leader:
            return None

    report("calibrating", 0.0)
    dense, network = _in_8_bits(original, pruned, samples, None if learned else bits.setting, request, dense)
    subject = raw = network.build() if learned is None else learned.graph
    report("calibrating", 1.0)
    device = here(request.runtime or fastest(network.build(), request.threads), request.threads)
    made = Made(subject, device, dense, network, settings, pruned, learned)
    if not made.quantised:
        warnings.warn("every layer stays in fp32: the file is the original", NoEffectWarning, stacklevel=3)
    elif request.reconstruct and not (learned and learned.epochs):
        folder = request.checkpoints
        refitted = made_up(subject, original, pruned, network, learned, made.quantised, samples, folder, report)
        made = replace(made, subject=refitted.graph, refitted=refitted, raw=raw)
    if learned is not None:
        made = replace(made, subject=lowered(replace(learned, graph=made.subject), device))
    return made


def _share(recipe: Recipe | None, steps: Sequence[Asked]) -> Recipe | None:
    """The recipe of each step that trains: they have equal parts of the epochs."""
    trained = sum(step.shapes or step.method.CARD.trains for step in steps)
    return None if recipe is None or not trained else replace(recipe, epochs=recipe.epochs / trained)


def _in_8_bits(
    original: Original,
    pruned: Pruned | None,
    samples: Samples,
    setting: Setting | None,
    request: Request,
    dense: EightBit | None,
) -> tuple[EightBit, EightBit]:
    """The original in dense 8 bits, and what is left of it as it is asked for, calibrated."""
    layers = original.of_kinds(int8.CARD.kinds)
    dense = dense or replace(eight_bit(original, samples, setting), precisions=int8.precisions(layers))
    network = replace(dense, precisions=int8.precisions(layers, setting))
    if pruned is None:
        return dense, network
    if request.reconstruct and pruned.dense is not None and not pruned.reshaped:
        # What is made up for has the ranges of the original, not of what zeros alone would leave.
        return dense, replace(network, graph=pruned.original.graph)
    return dense, eight_bit(pruned.original, samples, setting)
