"""Points that share their integers: a narrower network's codes are a part of the wide one's, its scales its own.

A point's batch norm folds into its scales and biases only (one factor an output), so the codes of all points are those
of one weight (DESIGN of the `.shoe` ladder). What cannot be shared, because a runtime's arithmetic needs other codes
there, stays in the point's own graph.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto

from shoestring.core.grid import Grid
from shoestring.core.ladder import Point
from shoestring.deploy.grids import Stored, put, stored
from shoestring.deploy.materialise import npy_bytes
from shoestring.deploy.normal_form import output_axis
from shoestring.deploy.packing import STORED, pack, packed_size, shift_of
from shoestring.deploy.rewrite import initialisers, lean

Part = tuple[slice, ...]  # of a weight, outputs first
_SAME = 1e-3  # of a weight: what rounding in float32 may leave between two folded forms


def with_codes_of(
    wide: ModelProto, floats: ModelProto, point: ModelProto, own: ModelProto, parts: Mapping[str, Part]
) -> ModelProto:
    """`point` with the codes of `wide` in every layer of `parts` (layer to the part of the wide one's weight) that is
    that part, up to a positive factor an output. `wide`, `point`: in the normal form; `floats`, `own`: what they were
    quantised from."""
    result = ModelProto()
    result.CopyFrom(point)
    theirs, codes, ours = stored(floats), stored(wide), stored(own)
    for name, layer in stored(point).items():
        if name not in parts or name not in codes or layer.scales is None or codes[name].scales is None:
            continue
        part = parts[name]
        factor = _factor(ours[name].weight, theirs[name].weight[part])
        if factor is None:
            continue
        grid = _grid(codes[name], part, factor)
        bias = ours[name].bias
        put(result, name, grid, np.zeros(len(grid.codes)) if bias is None else bias, shift_of(codes[name].weight))
    return result


def _factor(own: np.ndarray, part: np.ndarray) -> np.ndarray | None:
    """float64 [out]: what each output of `part` is multiplied by in `own`; None where that is not all."""
    if own.shape != part.shape:
        return None
    ours, theirs = (value.reshape(len(value), -1).astype(np.float64) for value in (own, part))
    norms = (theirs * theirs).sum(1)
    factor = np.where(norms > 0, (ours * theirs).sum(1) / np.where(norms > 0, norms, 1), 1.0)
    off = np.abs(ours - factor[:, None] * theirs).max(1, initial=0)
    if (factor <= 0).any() or (off > _SAME * np.maximum(np.abs(ours).max(1, initial=0), 1e-30)).any():
        return None
    return factor


def _grid(wide: Stored, part: Part, factor: np.ndarray) -> Grid:
    assert wide.scales is not None, "it is quantised"
    shift = shift_of(wide.weight)
    scales = wide.scales[part[0]].astype(np.float64) * 2.0**shift * factor
    return Grid((wide.weight >> shift)[part], np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32), 8)


def moved_up_by(model: ModelProto, grids: Mapping[str, Grid]) -> dict[str, int]:
    """Layer to the bits by which `deploy.learned.realise` moved the codes of its grid up. Points have codes in common
    where all move as far (`most`)."""
    found = stored(model)
    return {
        name: round(float(np.log2((grid.scales / found[name].scales).max())))
        for name, grid in grids.items()
        if name in found
    }


@dataclass(frozen=True)
class Shared:
    """`points`: cheapest first, as given; `members`: name to bytes, graphs and codes; `own`: bytes of codes that are in
    a point's graph because they are no part of shared ones."""

    points: tuple[Point, ...]
    members: Mapping[str, bytes]
    own: int = 0


def share(
    wide: ModelProto, points: Sequence[tuple[ModelProto, Mapping[str, Part]]], bits: Mapping[str, int] | None = None
) -> Shared:
    """What goes into a file. `points`: (graph in the normal form, layer to its part of the weight of `wide`). `bits`:
    layer to the bits of its codes, which are packed where they are 2 to 4; points may have them moved up further or
    less in their bytes."""
    codes = {tensor: _Codes(*found, (bits or {}).get(found[0], 8)) for tensor, found in _int8(wide).items()}
    found: list[dict[str, _Found]] = []
    own = 0
    for graph, parts in points:
        same: dict[str, _Found] = {}
        for tensor, (layer, array, axis) in _int8(graph).items():
            part = _oriented(parts[layer], axis) if layer in parts else None
            shift = codes[tensor].moved(part, array) if part is not None and tensor in codes else None
            if part is not None and shift is not None:
                same[tensor] = _Found(part, shift)
            else:
                own += array.nbytes
        found.append(same)
    boxes = {tensor: _box([same[tensor].part for same in found if tensor in same]) for tensor in codes}
    used = {tensor: box for tensor, box in boxes.items() if box}
    names = {tensor: f"weights-{index:03d}.npy" for index, tensor in enumerate(used)}
    members = {names[tensor]: npy_bytes(codes[tensor].stored(box)) for tensor, box in used.items()}
    told = []
    for index, ((graph, _), same) in enumerate(zip(points, found, strict=True)):
        name = f"point-{index}.onnx"
        members[name] = lean(_stripped(graph, set(same)))
        weights = {
            tensor: {"member": names[tensor], **codes[tensor].told(where, used[tensor])}
            for tensor, where in same.items()
        }
        told.append(Point(onnx=name, weights=weights))
    return Shared(tuple(told), members, own)


class _Found(NamedTuple):
    """A part of a tensor, and how far its codes lie up in their bytes."""

    part: Part
    shift: int


@dataclass(frozen=True)
class _Codes:
    """Of a layer of the wide network: int8 `array` as it lies there, outputs on `axis`, codes of `bits`."""

    layer: str
    array: np.ndarray
    axis: int
    bits: int

    @property
    def shift(self) -> int:
        """How far up they lie; 0 for those that are stored as they are."""
        return shift_of(self.array) if self.bits in STORED else 0

    def moved(self, part: Part, own: np.ndarray) -> int | None:
        """By how many bits this part of the codes has to be moved up to be `own`; None where that is something else."""
        here = (self.array >> self.shift)[part].astype(np.int32)
        tried = range(8) if self.bits in STORED else (0,)
        return next((bits for bits in tried if np.array_equal(here << bits, own)), None)

    def stored(self, box: Part) -> np.ndarray:
        """What is written of them."""
        here = (self.array >> self.shift)[box]
        return pack(here, STORED[self.bits]) if self.bits in STORED else here

    def told(self, found: _Found, box: Part) -> dict[str, Any]:
        """Where a point finds its part in what `stored` gave: as `core.ladder.Point` has it."""
        part, sizes = _within(found.part, box), [axis.stop - axis.start for axis in box]
        if self.bits not in STORED:
            return {"slice": part}
        width = STORED[self.bits]
        where = {"slice": [[0, packed_size(math.prod(sizes), width)]], "bits": width, "shift": found.shift}
        return {**where, "shape": sizes, "part": part}


def _int8(model: ModelProto) -> dict[str, tuple[str, np.ndarray, int]]:
    """Initialiser to (layer, codes as they lie there, the axis of outputs) of int8 weights that one layer reads."""
    constants = initialisers(model)
    makers = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    known = stored(model)
    found = {}
    for node in model.graph.node:
        maker = makers.get(node.input[1]) if node.name in known and len(node.input) > 1 else None
        if maker is not None and constants.get(maker.input[0], np.zeros(0)).dtype == np.int8:
            array = constants[maker.input[0]]
            found[maker.input[0]] = node.name, array, output_axis(node, array.ndim)
    return found


def _oriented(part: Part, axis: int) -> Part:
    """The part of a weight whose outputs lie on `axis`."""
    rest = list(part[1:])
    rest.insert(axis, part[0])
    return tuple(rest)


def _box(parts: Sequence[Part]) -> Part:
    """The smallest that holds all of `parts`; empty for none."""
    return tuple(
        slice(min(one.start for one in axis), max(one.stop for one in axis)) for axis in zip(*parts, strict=True)
    )


def _within(part: Part, box: Part) -> list[list[int]]:
    return [[one.start - of.start, one.stop - of.start] for one, of in zip(part, box, strict=True)]


def _stripped(graph: ModelProto, names: set[str]) -> ModelProto:
    """A copy without the values of these initialisers; names, types and shapes stay."""
    copied = ModelProto()
    copied.CopyFrom(graph)
    for tensor in copied.graph.initializer:
        if tensor.name in names:
            _clear(tensor)
    return copied


def _clear(tensor: TensorProto) -> None:
    for field in ("raw_data", "int32_data"):
        tensor.ClearField(field)
