"""Without training: each layer of a quantised network is fitted, front to back, to what the original writes there."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor

from shoestring.compress.reconstruct.bounds import Bounds
from shoestring.compress.reconstruct.layer import Asked, Fitted, Given, fit
from shoestring.compress.reconstruct.moments import Window, by_groups, patches
from shoestring.core.grid import Grid
from shoestring.deploy.grids import Stored, put, stored
from shoestring.deploy.packing import shift_of
from shoestring.deploy.rewrite import initialisers, readers
from shoestring.deploy.saturation import bounds_of
from shoestring.deploy.walk import ROOM, Walk, upstream
from shoestring.pipeline.receipt import Progress
from shoestring.train import checkpoint

_AT_ONCE = 2**22  # numbers of what is read, in one product


@dataclass(frozen=True)
class Reconstructed:
    """`graph`: with other weights and biases, and nothing else. `errors`: layer to the mean squared error of its
    outputs on the inputs it was fitted to, before and after. `inputs`: how many those were. `held_out`: points of
    divergence from the original on other inputs, before and after; `helped`: they do not say that it did harm; where
    they do, `graph` is as it was given."""

    graph: ModelProto
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    inputs: int = 0
    held_out: tuple[float, float] = (0.0, 0.0)
    helped: bool = True


def reconstruct(  # noqa: PLR0913 - a stage of `fit`, handed what the stages before made
    original: ModelProto,
    quantised: ModelProto,
    asked: Mapping[str, Asked],
    kept: Mapping[str, np.ndarray],
    inputs: Sequence[np.ndarray],
    folder: Path,
    report: Progress,
    student: ModelProto | None = None,
) -> Reconstructed:
    """Fits the layers of `asked` in `quantised`, the original in the normal form. Each reads what the layers before it,
    fitted already, make of `inputs` (float32 [1, ...] each), and follows what the original writes there; where that is
    added to another branch, it makes up for the other one too. `kept`: where the weights of pruned layers stay, outputs
    first. `student`: the float network that was quantised, where its layers have other shapes than the original's.
    After each layer its state is kept in a folder inside `folder`, from which the same run, stopped, goes on."""
    result = ModelProto()
    result.CopyFrom(quantised)
    ours, theirs = stored(quantised), _shaped(stored(original), stored(student or original))
    names = [name for name in ours if name in asked and name in theirs and plain(theirs[name])]
    names = [name for name in names if ours[name].scales is not None]
    identity = {
        "network": hashlib.sha256(quantised.SerializeToString(deterministic=True)).hexdigest(),
        "original": hashlib.sha256(original.SerializeToString(deterministic=True)).hexdigest(),
        "layers": {name: asdict(asked[name]) | {"pattern": str(asked[name].pattern)} for name in names},
        "kept": _digest(kept.values()),
        "inputs": _digest(inputs),
    }
    # Minutes of work: another run starts anew beside what is left of this one instead of being refused.
    place = folder / f"reconstruct-{hashlib.sha256(repr(identity).encode()).hexdigest()[:8]}"
    done = checkpoint.load(place, identity) or {}
    leader, follower = Walk(original, inputs), Walk(result, inputs)
    for index, name in enumerate(names):
        report("reconstructing", index / len(names))
        if name not in done:
            for walk in (leader, follower):
                walk.go(name)
            pair = (leader, theirs[name], follower, ours[name])
            branches = _branches(*pair, set(names[index:]))
            bounds = None if branches else clipped(original, theirs[name].writes)
            given = _given(theirs[name], ours[name], kept.get(name), bounds)
            done[name] = _state(fit(_Seen(partial(batches, *pair, branches)), given, asked[name]))
            checkpoint.save(place, identity, done)
        layer, state = ours[name], done[name]
        grid = Grid(state["codes"].reshape(layer.weight.shape).numpy(), state["steps"].numpy(), asked[name].bits)
        put(result, name, grid, state["bias"].numpy())
    report("reconstructing", 1.0)
    errors = {name: (done[name]["before"], done[name]["after"]) for name in names}
    return Reconstructed(result, errors, len(inputs))


def _shaped(layers: dict[str, Stored], student: Mapping[str, Stored]) -> dict[str, Stored]:
    """`layers` of the original, which say what is written, with the weights and windows of those of `student` that have
    other shapes."""
    return {
        name: replace(student[name], writes=layer.writes)
        if name in student and student[name].weight.shape != layer.weight.shape
        else layer
        for name, layer in layers.items()
    }


def plain(layer: Stored) -> bool:
    """A layer that can be written as a matrix product of patches."""
    given = layer.attributes
    return layer.weight.ndim <= 4 and given.get("auto_pad", b"NOTSET") in (b"NOTSET", b"", b"VALID")


def _window(layer: Stored) -> Window | None:
    """None for a linear layer."""
    if layer.op != "Conv":
        return None
    given, axes = layer.attributes, layer.weight.ndim - 2
    pads = list(given.get("pads", [0] * 2 * axes))
    return Window(
        kernel=layer.weight.shape[2:],
        strides=tuple(given.get("strides", [1] * axes)),
        pads=tuple(zip(pads[:axes], pads[axes:], strict=True)),
        dilations=tuple(given.get("dilations", [1] * axes)),
        groups=int(given.get("group", 1)),
    )


class _Seen:
    """What can be read again and again: from memory after the first time, where there is room for it."""

    def __init__(self, read: Callable[[], Iterator[tuple[Tensor, Tensor]]]):
        self._read = read
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept, room = [], ROOM
        for x, y in self._read():
            room -= 4 * (x.numel() + y.numel())
            kept.append((x, y))
            if room < 0:
                kept.clear()
            yield x, y
        if room >= 0:
            self._kept = kept


def batches(
    leader: Walk, theirs: Stored, follower: Walk, ours: Stored, branches: tuple[str, ...] = ()
) -> Iterator[tuple[Tensor, Tensor]]:
    """What a layer reads in the network that follows, with what it should write. `branches`: what is added to it in
    the one that leads and in the one that follows, when the difference is to be made up for."""
    window = _window(theirs)
    leads, follows = [theirs.writes, *branches[:1]], [ours.reads, *branches[1:]]
    waiting: list[tuple[Tensor, Tensor]] = []
    for led, followed in zip(leader.read(leads), follower.read(follows), strict=True):
        y, x = torch.from_numpy(led[0] + (led[1] - followed[1] if branches else 0)), torch.from_numpy(followed[0])
        if window is None:
            waiting.append((x.reshape(1, -1, x.shape[-1]).mT, y.reshape(1, -1, y.shape[-1]).mT))
        else:
            waiting.append((patches(x, window), by_groups(y, window.groups)))
        if sum(x.numel() for x, _ in waiting) >= _AT_ONCE:
            yield _together(waiting)
    if waiting:
        yield _together(waiting)


def _together(waiting: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Small products cost more than they compute."""
    x, y = (torch.cat(parts, 2) if len(parts) > 1 else parts[0] for parts in zip(*waiting, strict=True))
    waiting.clear()
    return x, y


def _branches(leader: Walk, theirs: Stored, follower: Walk, ours: Stored, to_come: set[str]) -> tuple[str, ...]:
    """What is added to a layer's output in both networks, when no layer `to_come` has a part in it."""
    one, other = beside(leader.model, theirs.writes), beside(follower.model, ours.writes)
    return () if one is None or other is None or upstream(follower.model, other) & to_come else (one, other)


def beside(model: ModelProto, tensor: str) -> str | None:
    """What is added to `tensor`, which nothing else reads but quantisers."""
    behind = readers(model)
    while len(behind.get(tensor, ())) == 1:
        (node,) = behind[tensor]
        if node.op_type == "Add":
            others = [name for name in node.input if name != tensor]
            return others[0] if others and others[0] not in initialisers(model) else None
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Clip") or node.input[0] != tensor:
            return None
        tensor = node.output[0]
    return None


def by_group(values: np.ndarray, layer: Stored, kind: Any = np.float64) -> Tensor:
    """A weight of a layer, outputs first, as [groups, outputs, inputs * taps]; numbers by output: [groups, outputs]."""
    groups = int(layer.attributes.get("group", 1)) if layer.op == "Conv" else 1
    flat = np.ascontiguousarray(values, kind).reshape(groups, len(values) // groups, -1)
    return torch.from_numpy(flat if values.ndim > 1 else flat[..., 0])


def clipped(model: ModelProto, tensor: str) -> Bounds | None:
    """The bounds of the activation that alone reads `tensor`."""
    behind = readers(model).get(tensor, [])
    if len(behind) != 1 or tensor in {value.name for value in model.graph.output}:
        return None
    return bounds_of(behind[0], initialisers(model))


def _given(theirs: Stored, ours: Stored, kept: np.ndarray | None, bounds: Bounds | None) -> Given:
    """By groups. Codes that were moved up in their byte come down again."""
    assert ours.scales is not None, "a quantised layer"
    up = 2 ** shift_of(ours.weight)
    keep = np.ones(theirs.weight.shape, bool) if kept is None else kept
    bias = np.zeros(len(ours.weight)) if ours.bias is None else ours.bias
    values = (theirs.weight, ours.weight // up, ours.scales.astype(np.float64) * up, bias)
    weight, codes, steps, constant = (by_group(value, theirs) for value in values)
    free = ours.op != "MatMul"
    return Given(weight, codes, steps, constant, by_group(keep, theirs, bool), taps_of(theirs), bounds, free)


def taps_of(layer: Stored) -> int:
    """Of its kernel."""
    return math.prod(layer.weight.shape[2:])


def _state(fitted: Fitted) -> dict[str, object]:
    return {
        "codes": fitted.codes.flatten(0, 1).to(torch.int8),
        "steps": fitted.steps.flatten().float(),
        "bias": fitted.bias.flatten(),
        "before": fitted.before,
        "after": fitted.after,
    }


def _digest(arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
