"""The ledger: what each step of the way from the original to the file brought, in bytes, milliseconds and quality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from shoestring.core.device import Device
from shoestring.core.quality import distance
from shoestring.core.receipt import Step
from shoestring.deploy import runtimes
from shoestring.deploy.archive import pack
from shoestring.deploy.materialise import pack_weights
from shoestring.deploy.rewrite import lean
from shoestring.pipeline.making import Made
from shoestring.pipeline.original import Original
from shoestring.pipeline.planned import Planned
from shoestring.pipeline.post_training import EightBit, outputs
from shoestring.pipeline.receipt import Progress
from shoestring.pipeline.stopwatch import against


@dataclass(frozen=True)
class _Line:
    step: str
    graph: ModelProto
    kept: bool = True
    note: str = ""


def ledger(original: Original, made: Made, plan: Planned | None, size: int, report: Progress) -> tuple[Step, ...]:
    """The original in fp32, in dense 8 bits where the file is quantised, with what methods took away, and as it is
    shipped. What was taken back on the way is in it. `size`: bytes of the file."""
    report("ledger", 0.0)
    dense, ready = made.dense.build(), _ready(made)
    same = dense.SerializeToString(deterministic=True) == ready.SerializeToString(deterministic=True)
    lines = [_Line("8 bits", ready if same else dense)] if made.quantised else []
    if plan is not None:
        lines += [_Line(name, lines[-1].graph, False, why) for name, why in plan.settled.taken_back if lines]
    if made.quantised and not same:
        lines.append(_Line(_steps(made), ready))
    if made.refitted is not None and made.refitted.errors:
        helped = made.refitted.helped
        graph = made.subject if helped else ready
        lines.append(_Line("reconstruction", graph, helped, "" if helped else "it did harm on held-out inputs"))
    return _measured(original, made, lines, size, report)


def _ready(made: Made) -> ModelProto:
    """The network before reconstruction."""
    return made.subject if made.raw is None else made.raw


def _steps(made: Made) -> str:
    pruned = made.pruned
    methods = [own.method for settings in pruned.reshaped.values() for own in settings] if pruned else []
    methods += [own.method for own in pruned.settings.values()] if pruned else []
    if made.learned is not None:
        methods += [setting.method for setting in made.settings.values()]
    trained = (made.learned and made.learned.epochs) or (pruned and pruned.epochs)
    return ", ".join([*(dict.fromkeys(methods) or ["bits by layer"]), *["trained"] * bool(trained)])


def brief(
    original: Original, dense: EightBit, last: tuple[str, ModelProto], size: int, device: Device, report: Progress
) -> tuple[Step, ...]:
    """The original in fp32, in dense 8 bits (`dense`), and `last`: what the way to the file's own graph is called, and
    that graph. `size`: bytes of the file."""
    report("ledger", 0.0)
    lines = [_Line("8 bits", dense.build()), _Line(*last)]
    return _timed(original, lines, [_bytes(lines[0].graph, {}), size], device, dense.held_out, report)


def _measured(original: Original, made: Made, lines: list[_Line], size: int, report: Progress) -> tuple[Step, ...]:
    bits = made.network.bits if made.learned is None else made.learned.bits
    ready = _ready(made)
    sizes = [
        size if line.graph is made.subject else _bytes(line.graph, bits if line.graph is ready else {})
        for line in lines
    ]
    return _timed(original, lines, sizes, made.device, made.dense.held_out, report)


def _timed(
    original: Original,
    lines: Sequence[_Line],
    sizes: Sequence[int],
    device: Device,
    held: Sequence[np.ndarray],
    report: Progress,
) -> tuple[Step, ...]:
    graphs = {str(index): (line.graph, device.runtime) for index, line in enumerate(lines)}
    times, before = against(graphs, original.graph, device.threads)
    expected = outputs(original.graph, runtimes.STOCK[0], held)
    found = [Step("original, fp32", before, _bytes(original.graph, {}), 100.0)]
    for index, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        report("ledger", (index + 1) / (len(lines) + 1))
        moved = distance(outputs(line.graph, runtimes.STOCK[0], held), expected)[1].mean()
        found.append(Step(line.step, times[str(index)], size, 100 * (1 - float(moved)), line.kept, line.note))
    report("ledger", 1.0)
    return tuple(found)


def _bytes(graph: ModelProto, bits: Mapping[str, int]) -> int:
    """Of a graph as a file holds it."""
    stripped, packed, _ = pack_weights(graph, bits)
    return len(pack({"model.onnx": lean(stripped), **packed}))
