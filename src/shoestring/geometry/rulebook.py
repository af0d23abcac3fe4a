"""Voxels that are there: cells of a grid that hold points, and which of them lie beside one another.

Cells are rows of int64 (sample, x, y, z), sorted, none twice. A rule book (Graham et al. 2018, arXiv 1711.10275,
section 3) says, for each offset of a kernel, which cell feeds which; it is found by sorting and searching one number a
cell, without hash tables.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.core.errors import BadInput

_BITS = 16  # a coordinate of a cell; three of them and the sample fit into the 63 bits of a positive int64
_SAMPLES = 2**14


@dataclass(frozen=True)
class Pairs:
    """One offset of a kernel: cell `source` feeds cell `target`, int64 [n] each; no cell is twice in either."""

    source: Tensor
    target: Tensor


def voxelise(xyz: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """The cells, cubes of `size`, that hold a point of `xyz` float [B, N, 3]: int64 [V, 4], and for each point the row
    of its cell, int64 [B * N]. Cell borders lie at multiples of `size`. Raises BadInput for a size that is not above 0,
    for coordinates that are not finite, and for a cloud more than 65,533 cells wide."""
    if not size > 0:
        raise BadInput(f"voxels: a size of {size} cuts nothing; give one above 0")
    if not bool(torch.isfinite(xyz).all()):
        raise BadInput("voxels: a coordinate is not finite; leave that point out")
    batch, points, _ = xyz.shape
    if batch > _SAMPLES:
        raise BadInput(f"voxels: {batch} samples at once are too many; give at most {_SAMPLES}")
    # In double: float32 has no room for a border every 5 cm at 5,000 km north.
    cells = torch.floor(xyz.reshape(-1, 3).double() / size)
    low = cells.amin(0)
    if float((cells - low).amax()) > 2**_BITS - 3:
        raise BadInput(f"voxels: the points span more than {2**_BITS - 3} cells of {size:g}; give larger cells")
    sample = torch.arange(batch, device=xyz.device).repeat_interleave(points)
    keys, index = torch.unique(_key(sample, (cells - low).long()), return_inverse=True)
    place = _place(keys)
    place[:, 1:] += low.long()
    return place, index


def neighbours(cells: Tensor) -> list[Pairs]:
    """The rule book of a submanifold 3x3x3 convolution: 27 lists of pairs, ordered as the taps of a dense kernel
    [x, y, z] in {-1, 0, 1}; offset (i, j, k) of `target` leads to `source`. The middle one is every cell itself."""
    keys = _keys(cells)
    every = torch.arange(len(cells), device=cells.device)
    before = []
    for tap in range(13):  # the second half is the first one the other way round
        x, y, z = tap // 9 - 1, tap // 3 % 3 - 1, tap % 3 - 1
        wanted = keys + (((x << _BITS) + y) << _BITS) + z
        found = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        target = torch.nonzero(keys[found] == wanted).squeeze(1)
        before.append(Pairs(found[target], target))
    after = [Pairs(pairs.target, pairs.source) for pairs in reversed(before)]
    return [*before, Pairs(every, every), *after]


def coarser(cells: Tensor) -> tuple[Tensor, list[Pairs]]:
    """Cells of twice the size, int64 [U, 4], and the rule book of a convolution with kernel 2 and stride 2: 8 lists of
    pairs, ordered as the taps [x, y, z] in {0, 1}, from a cell to the one it lies in."""
    low = cells[:, 1:].amin(0)
    low = low - low % 2  # parents of the grid itself, wherever the cloud begins
    inside = cells[:, 1:] - low
    keys, parent = torch.unique(_key(cells[:, 0], inside >> 1), return_inverse=True)
    tap = (inside[:, 0] & 1) * 4 + (inside[:, 1] & 1) * 2 + (inside[:, 2] & 1)
    lists = [torch.nonzero(tap == corner).squeeze(1) for corner in range(8)]
    place = _place(keys)
    place[:, 1:] += low >> 1
    return place, [Pairs(source, parent[source]) for source in lists]


def _keys(cells: Tensor) -> Tensor:
    return _key(cells[:, 0], cells[:, 1:] - cells[:, 1:].amin(0))


def _key(sample: Tensor, place: Tensor) -> Tensor:
    """One number a cell, ordered as the rows (sample, x, y, z) are. `place` >= 0; every axis keeps a free cell on both
    sides, so that a step over the edge meets nobody."""
    x, y, z = (place + 1).unbind(1)
    return (((((sample << _BITS) + x) << _BITS) + y) << _BITS) + z


def _place(keys: Tensor) -> Tensor:
    mask = 2**_BITS - 1
    axes = [keys >> 3 * _BITS, *((keys >> shift * _BITS & mask) - 1 for shift in (2, 1, 0))]
    return torch.stack(axes, dim=1)
