"""Channels in an order in which small blocks of weights gather: the same function, of which more is left when the
smallest blocks go. Free at run time, since the order is folded into the neighbours.

After Pool and Yu, Channel Permutations for N:M Sparsity, NeurIPS 2021; here the outputs that share a block are chosen.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from shoestring.core.pattern import BlockPattern
from shoestring.graph.capture import captured_shape, example_input
from shoestring.graph.channels import OUT, SPLIT, Cell, Place, groups, is_depthwise
from shoestring.graph.dependencies import trace
from shoestring.graph.masks import factors, groups_of, layer_at, norms

_PASSES = 6  # of swaps over all channels
_SAME = 1e-9  # of the largest output, in float64: rounding in another order of sums


@dataclass(frozen=True)
class Gathered:
    """What an order brought to the layers whose outputs it changed: `before`, `after`: the mean share of their squared
    weight in the blocks that stay."""

    layers: tuple[str, ...]
    before: float
    after: float


def gathered(
    gm: fx.GraphModule, pattern: BlockPattern, percent: float, layers: Collection[str]
) -> tuple[fx.GraphModule, tuple[Gathered, ...]]:
    """A copy of `gm` (captured, batch norms in place) that computes the same, its channels in an order in which pruning
    the smallest blocks of `pattern`, `percent` of each of `layers` (module paths), loses least squared weight; and what
    that brought. Only whole outputs of layers are put in order, each set of channels that depend on one another as one;
    what cannot be followed stays as it is. Raises BadInput when nothing can be followed."""
    shape = captured_shape(gm)
    gm, told = copy.deepcopy(gm), []
    if pattern.outputs == 1:
        return gm, ()
    behind = norms(gm)
    for group in groups(trace(gm, shape)):
        cells = group.cells
        if group.fault or len(cells) != 1 or not movable(gm, cells[0]):
            continue
        rows = {path: _rows(gm, path, behind) for path, side in cells[0].indices if side == OUT and path in layers}
        if not rows or any(len(values) != cells[0].size for values in rows.values()):
            continue
        order = gathering(list(rows.values()), pattern.outputs, percent)
        identity = np.arange(cells[0].size)
        before, after = (kept(list(rows.values()), o, pattern.outputs, percent) for o in (identity, order))
        moved = permuted(gm, cells[0], order)
        if after > before and same(gm, moved, shape):
            gm = moved
            told.append(Gathered(tuple(rows), before, after))
    return gm, tuple(told)


def permuted(gm: fx.GraphModule, cell: Cell, order: np.ndarray) -> fx.GraphModule:
    """A copy in which the i-th channel of `cell` is what was the `order[i]`-th, wherever it is made or read."""
    gm = copy.deepcopy(gm)
    for (path, side), indices in cell.indices.items():
        if side == SPLIT:
            continue
        module = gm.get_submodule(path)
        to, source = torch.from_numpy(indices.ravel()), torch.from_numpy(indices[order].ravel())
        outputs = side == OUT or is_depthwise(module)
        with torch.no_grad():
            for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if outputs and value.ndim and len(value) > int(to.max()):
                    value[to] = value[source]
                elif not outputs and value.ndim > 1:
                    value[:, to] = value[:, source]
    return gm


def gathering(rows: list[np.ndarray], height: int, percent: float) -> np.ndarray:
    """An order of channels in which rows of like importance lie in one block, no worse than the one they are in.
    `rows`: of each layer the squared weights of its outputs, [channels, ...]. Greedily, then by swaps; always the same
    for the same rows."""
    scaled = [values.reshape(len(values), -1) / max(values.sum(), 1e-30) for values in rows]
    values = np.concatenate(scaled, axis=1)
    widths = [part.shape[1] for part in scaled]
    price = np.repeat([height * np.quantile(part, percent / 100) for part in scaled], widths)
    blocks = _greedy(values, height, price)
    best, most = np.arange(len(values)), kept(rows, np.arange(len(values)), height, percent)
    for _ in range(_PASSES):
        order = np.concatenate(blocks)
        if (share := kept(rows, order, height, percent)) > most:
            best, most = order, share
        # What a block is worth is what it holds above the smallest block that stays (the Lagrangian of the share).
        sums = np.split(np.stack([values[block].sum(0) for block in blocks]), np.cumsum(widths)[:-1], axis=1)
        price = np.repeat([np.quantile(part, percent / 100) for part in sums], widths)
        if not _swap(values, blocks, price):
            break
    order = np.concatenate(blocks)
    return order if kept(rows, order, height, percent) > most else best


def kept(rows: list[np.ndarray], order: np.ndarray, height: int, percent: float) -> float:
    """The mean over layers of the share of squared weight that stays in this order, without the smallest blocks."""
    shares = []
    for values in rows:
        flat = values.reshape(len(values), -1)[order]
        padded = np.pad(flat, ((0, -len(flat) % height), (0, 0)))
        blocks = np.sort(padded.reshape(-1, height, flat.shape[1]).sum(1), axis=None)
        shares.append(blocks[int(percent / 100 * blocks.size) :].sum() / max(blocks.sum(), 1e-30))
    return float(np.mean(shares))


def _greedy(values: np.ndarray, height: int, price: np.ndarray) -> list[np.ndarray]:
    """Blocks that begin with the largest row that is left and take the rows with which they are worth most."""
    left = list(np.argsort(-values.sum(1), kind="stable"))
    blocks = []
    while left:
        block = [left.pop(0)]
        total = values[block[0]].copy()
        while len(block) < height and left:
            worth = np.maximum(values[left] + total - price, 0).sum(1)
            best = int(worth.argmax())
            total += values[left[best]]
            block.append(left.pop(best))
        blocks.append(np.array(block))
    return blocks


def _swap(values: np.ndarray, blocks: list[np.ndarray], price: np.ndarray) -> bool:
    """Each row changes places with the one in another block with which both gain most. Whether any did."""
    sums = np.stack([values[block].sum(0) for block in blocks])
    worth = np.maximum(sums - price, 0).sum(1)
    owner = np.empty(len(values), int)
    for number, block in enumerate(blocks):
        owner[block] = number
    changed = False
    for row in range(len(values)):
        own = owner[row]
        rest = sums[own] - values[row]
        here = np.maximum(rest + values - price, 0).sum(1)  # its block, with any other row in its place
        there = np.maximum(sums[owner] - values + values[row] - price, 0).sum(1)
        gain = here + there - worth[own] - worth[owner]
        gain[owner == own] = 0.0
        other = int(gain.argmax())
        if gain[other] <= 1e-12:
            continue
        changed = True
        theirs = owner[other]
        for number, out, into in ((own, row, other), (theirs, other, row)):
            block = blocks[number]
            block[int(np.flatnonzero(block == out)[0])] = into
            sums[number] += values[into] - values[out]
            worth[number] = np.maximum(sums[number] - price, 0).sum()
        owner[row], owner[other] = theirs, own
    return changed


def movable(gm: fx.GraphModule, cell: Cell) -> bool:
    """Whether every place has the channels for itself: no groups but depthwise ones, in which order counts."""
    for path, side in cell.indices:
        module = gm.get_submodule(path) if side != SPLIT else nn.Identity()
        grouped = isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups > 1 and not is_depthwise(module)
        if grouped or side == SPLIT:
            return False
    return True


def _rows(gm: fx.GraphModule, path: str, behind: Mapping[str, nn.Module]) -> np.ndarray:
    """Squared folded weights of a layer, [outputs, inputs x taps]; none for layers with groups."""
    layer = layer_at(gm, path)
    if groups_of(layer) > 1:
        return np.zeros((0, 0))
    scale = factors(layer, behind.get(path)).detach()  # type: ignore[arg-type]  # a batch norm
    weight: Tensor = layer.weight.detach() * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    return weight.double().square().flatten(1).cpu().numpy()


def same(one: fx.GraphModule, other: fx.GraphModule, shape: tuple[int, ...]) -> bool:
    """Whether both compute the same on one input, in float64."""
    with torch.no_grad():
        found, wanted = (copy.deepcopy(gm).double().eval() for gm in (other, one))
        x = example_input(wanted, shape)
        got, expected = found(x), wanted(x)
    return bool(torch.allclose(got, expected, 0.0, _SAME * float(expected.abs().max())))


__all__ = ["Gathered", "Place", "gathered", "gathering", "kept", "permuted"]
