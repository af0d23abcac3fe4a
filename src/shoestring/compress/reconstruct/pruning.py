"""Which weights go: optimal brain surgery over blocks, with exact updates of the others.

Frantar, Singh and Alistarh, Optimal Brain Compression, arXiv 2208.11580: the block whose removal costs least goes, the
others of its rows take over, again and again; each row is followed to its end, then the cheapest steps of all rows are
taken. For a block p of a row the cost is w_p [H^-1_pp]^-1 w_p', summed over the rows that share the block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shoestring.core.pattern import BlockPattern, NMPattern, Pattern

STEPS = 128  # of the way of one row, at most: in large layers several blocks go at once
_ROOM = 2**25  # numbers of the inverses that are held at once
_ROUNDING = 1e-6  # of a number of float32, with some to spare


@dataclass(frozen=True)
class Ways:
    """How each row of a weight, or each block of rows, is emptied. `gone`: its blocks in the order in which they go;
    `costs`: what each one's going adds to the error, never less than one before; `weights`: how many go with each; all
    [units, blocks]. `all_go`: N:M, which says itself how many."""

    shape: tuple[int, int, int]
    tall: int
    members: Tensor
    gone: Tensor
    costs: Tensor
    weights: Tensor
    all_go: bool

    def keep(self, removed: int) -> Tensor:
        """What stays, bool [g, o, d], when at most so many weights go: the cheapest ones of all rows."""
        groups, outputs, width = self.shape
        taken = torch.ones_like(self.gone, dtype=torch.bool)
        if not self.all_go:
            taken = _cheapest(self.costs, self.weights, removed)
        left = torch.ones(len(self.gone), len(self.members), dtype=torch.bool)
        left.scatter_(1, self.gone, ~taken)
        keep = torch.zeros(len(self.gone), int(self.members.max()) + 1, dtype=torch.bool)
        keep[:, self.members.flatten()] = left.repeat_interleave(self.members.shape[1], 1)
        return keep[:, :width].repeat_interleave(self.tall, 0).reshape(groups, -1, width)[:, :outputs]


def ways(hessian: Tensor, target: Tensor, taps: int, pattern: Pattern, steps: int = STEPS) -> Ways:
    """`hessian`: [g, d, d], positive definite; `target`: [g, o, d], the weight whose quadratic it is; `taps`: of the
    kernel, d = inputs * taps. With `steps` at least the blocks of a row, one goes at a time."""
    groups, outputs, width = target.shape
    blocks = _Blocks.of(width // taps, taps, pattern)
    tall = pattern.outputs if isinstance(pattern, BlockPattern) else 1
    units = -(-outputs // tall)
    rows = torch.nn.functional.pad(target, (0, blocks.padded, 0, units * tall - outputs)).float()
    rows = rows.reshape(groups * units, tall, -1)
    inverse = torch.linalg.inv(hessian).float()
    found = []
    chunk = max(1, _ROOM // (width + blocks.padded) ** 2)
    for start in range(0, groups * units, chunk):
        of = torch.arange(start, min(start + chunk, groups * units))
        found.append(_way(rows[of], _padded(inverse[of // units], blocks.padded), blocks, steps))
    gone, costs = (torch.cat(parts) for parts in zip(*found, strict=True))
    heights = torch.full((groups, units), tall)
    heights[:, -1] = outputs - (units - 1) * tall
    weights = heights.reshape(-1, 1) * blocks.sizes[gone]
    return Ways((groups, outputs, width), tall, blocks.members, gone, costs, weights, isinstance(pattern, NMPattern))


@dataclass(frozen=True)
class _Blocks:
    """The columns of a flat weight in blocks. `members`: [blocks, size]; numbers from d on are columns of zeros that
    fill up ragged blocks, `padded` of them. `sizes`: real columns of each. `quota`: of N:M, how many of each of the
    `owner`s of the blocks go."""

    members: Tensor
    sizes: Tensor
    padded: int
    owner: Tensor
    quota: Tensor

    @classmethod
    def of(cls, inputs: int, taps: int, pattern: Pattern) -> "_Blocks":
        size = pattern.inputs if isinstance(pattern, BlockPattern) else 1
        missing = -inputs % size
        # A filled-up input has columns of its own behind all real ones.
        places = torch.arange((inputs + missing) * taps).reshape(-1, size, taps).permute(0, 2, 1).reshape(-1, size)
        sizes = (places < inputs * taps).sum(1)
        if isinstance(pattern, NMPattern):
            owner = torch.arange(inputs).repeat_interleave(taps) // pattern.of * taps + torch.arange(taps).repeat(
                inputs
            )
            quota = (torch.bincount(owner) - pattern.kept).clamp_min(0)
        else:
            owner, quota = torch.arange(len(places)), torch.ones(len(places), dtype=torch.long)
        return cls(places, sizes, missing * taps, owner, quota)


def _padded(inverse: Tensor, more: int) -> Tensor:
    """With `more` columns that have nothing to do with the others."""
    wide = torch.nn.functional.pad(inverse, (0, more, 0, more))
    if more:
        wide[:, range(-more, 0), range(-more, 0)] = 1
    return wide


def _way(weight: Tensor, inverse: Tensor, blocks: _Blocks, steps: int) -> tuple[Tensor, Tensor]:
    """The blocks of each of some rows in the order in which they go, and what each one's going costs, never less than
    one before: [units, blocks that go]. `weight`: [units, tall, d]; `inverse`: [units, d, d]; both are used up."""
    units, count = len(weight), len(blocks.members)
    places = blocks.members.expand(units, -1, -1)  # of the blocks that are left, in what is left of the columns
    names = torch.arange(count).expand(units, -1)
    quota = blocks.quota.expand(units, -1).clone()
    total = int(blocks.quota.sum())
    if not total:  # N:M of a layer with fewer inputs
        return names[:, :0], torch.zeros(units, 0)
    at_once = -(-total // steps)
    order, costs = [], []
    alive = torch.ones(units, count, dtype=torch.bool)
    worst = torch.zeros(units, 1)
    done, size = 0, places.shape[2]
    unit = torch.arange(units)[:, None]
    while done < total:
        number = min(at_once, total - done)
        cost = _costs(weight, inverse, places, alive).masked_fill(~alive, torch.inf)
        owner = blocks.owner[names]
        cost = cost.masked_fill(quota.gather(1, owner) == 0, torch.inf)
        if len(blocks.quota) < count:  # N:M: of one group no two at once, so that the quota holds
            first = torch.full(quota.shape, torch.inf).scatter_reduce(1, owner, cost, "amin")
            best = cost.masked_fill(cost > first.gather(1, owner), torch.inf)
            number = min(number, int(best.isfinite().sum(1).min()))
            cost = best
        _, chosen = cost.topk(number, largest=False)
        gone = places[unit, chosen].flatten(1)  # [units, number * size]
        spent = _remove(weight, inverse, gone)
        worst = torch.maximum(worst, spent / number)
        order.append(names[unit, chosen])
        costs.append(worst.expand(-1, number))
        quota.scatter_add_(1, owner.gather(1, chosen), -torch.ones_like(chosen))
        alive[unit, chosen] = False
        done += number
        left = alive.shape[1] - (done - (count - alive.shape[1]))
        if left and 2 * left <= alive.shape[1]:  # fewer columns, less work
            stay = alive.nonzero()[:, 1].reshape(units, left)
            columns = places[unit, stay].flatten(1)
            weight = weight.gather(2, columns[:, None].expand(-1, weight.shape[1], -1))
            inverse = inverse[unit[:, :, None], columns[:, :, None], columns[:, None]]
            names = names[unit, stay]
            places = torch.arange(left * size).reshape(left, size).expand(units, -1, -1)
            alive = torch.ones(units, left, dtype=torch.bool)
    return torch.cat(order, 1), torch.cat(costs, 1)


def _costs(weight: Tensor, inverse: Tensor, places: Tensor, alive: Tensor) -> Tensor:
    """What each block's going costs, [units, blocks]; of those that are gone any number."""
    units, count, size = places.shape
    unit = torch.arange(units)
    if size == 1:
        diagonal = inverse.diagonal(dim1=1, dim2=2).gather(1, places[..., 0]).clamp_min(1e-30)
        squares = weight.square().sum(1).gather(1, places[..., 0])
        return squares / diagonal
    inner = inverse[unit[:, None, None, None], places[..., :, None], places[..., None, :]]
    own = weight.gather(2, places.flatten(1)[:, None].expand(-1, weight.shape[1], -1))
    own = own.reshape(units, -1, count, size).permute(0, 2, 3, 1)
    # Of what is gone, rounding is left in the inverse, which may be singular.
    inner = torch.where(alive[:, :, None, None], _firm(inner), torch.eye(size))
    return (own * torch.linalg.solve(inner, own)).sum((2, 3))


def _firm(inner: Tensor) -> Tensor:
    """Positive matrices [..., p, p] with as much more on their diagonals as float32 knows of them."""
    mean = inner.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    return inner + (_ROUNDING * mean + torch.finfo(inner.dtype).tiny) * torch.eye(inner.shape[-1])


def _remove(weight: Tensor, inverse: Tensor, gone: Tensor) -> Tensor:
    """Takes the columns `gone` [units, p] out of weight and inverse, in place; what it cost, [units, 1]."""
    wide = inverse.gather(1, gone[:, :, None].expand(-1, -1, inverse.shape[2]))  # [units, p, d]
    inner = wide.gather(2, gone[:, None].expand(-1, gone.shape[1], -1))
    own = weight.gather(2, gone[:, None].expand(-1, weight.shape[1], -1))  # [units, tall, p]
    solved = torch.linalg.solve(_firm(inner), torch.cat([wide, own.mT], 2))
    pulled, cost = solved[:, :, : wide.shape[2]], solved[:, :, wide.shape[2] :]
    weight.baddbmm_(own, pulled, alpha=-1)
    inverse.baddbmm_(wide.mT, pulled, alpha=-1)
    index = gone[:, None].expand(-1, weight.shape[1], -1)
    weight.scatter_(2, index, 0.0)
    return (own * cost.mT).sum((1, 2), keepdim=True)[:, 0]


def _cheapest(cost: Tensor, sizes: Tensor, removed: int) -> Tensor:
    """Bool [units, blocks that can go]: of all rows the cheapest steps that remove at most so many weights. Of one row
    they are the first ones, for costs never fall along it."""
    place = torch.arange(cost.shape[1]).expand_as(cost).flatten()
    by_place = torch.argsort(place, stable=True)
    order = by_place[torch.argsort(cost.flatten()[by_place], stable=True)]
    fits = sizes.flatten()[order].cumsum(0) <= removed
    taken = torch.zeros(cost.numel(), dtype=torch.bool)
    taken[order[fits]] = True
    return taken.reshape(cost.shape)
