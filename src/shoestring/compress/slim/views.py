"""Smaller networks inside a large one: the graph of each, and where in the large one's weights its own lie."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from shoestring.compress.slim.space import Shape, Space
from shoestring.core.errors import BadInput
from shoestring.graph.capture import captured_shape, reshaped
from shoestring.graph.channels import Cell, Group, Place, ends, groups, is_depthwise, width
from shoestring.graph.dependencies import trace
from shoestring.graph.importance import energies, importance
from shoestring.graph.permute import movable, permuted, same
from shoestring.graph.residual import leave_out, stages
from shoestring.graph.sampling import counts, fewer
from shoestring.graph.surgery import unchanged, without

MULTIPLE = 8  # of widths: what vectors and blocks of every runtime here fit into
_LEAST_KERNEL = 3

# Of a tensor: a block of it; or, where joined channels are narrowed, the numbers of its elements.
Part = tuple[slice, ...] | Tensor


@dataclass(frozen=True)
class View:
    """`gm`: a smaller network with its own running statistics; its weights are of no use. `parts`: parameter name to
    the part of the large network's parameter of this name, which is its own."""

    gm: fx.GraphModule
    parts: Mapping[str, Part]

    def weights(self, large: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters, as views into those of the large network."""
        return {name: self.take(name, large[name]) for name in self.parts}

    def take(self, name: str, whole: Tensor) -> Tensor:
        """The part of what has the shape of the large network's parameter of this name."""
        part = self.parts[name]
        return whole.take(part.to(whole.device)) if isinstance(part, Tensor) else whole[part]


class Views:
    """`gm`: the large network (captured, batch norms in place), each set of channels that depend on one another in the
    order of what they are worth, so that the first ones are kept. `multiple`: of widths; blocks of weights that divide
    it are not cut. `fixed`: layers whose outputs cannot go, each to why. Raises BadInput where `space` asks for
    what the network does not have."""

    def __init__(self, gm: fx.GraphModule, space: Space, multiple: int = MULTIPLE):
        self._multiple, self.shape = multiple, captured_shape(gm)
        traced, last = trace(gm, self.shape), ends(gm)
        found = [group for group in groups(traced) if not last.intersection(group.outputs)]
        self.fixed = {group.outputs[0]: group.fault for group in found if group.fault and group.outputs}
        self._pieces = traced.pieces
        self._groups = [group for group in found if not group.fault and group.outputs]
        self.gm = _ordered(gm, self._groups, self.shape)
        self._groups = self._possible(space)
        self.stages = stages(self.gm)
        self.space = self._held(space)
        self._known: dict[Shape, View] = {}

    def at(self, shape: Shape) -> View:
        """Made once for each shape. Input sizes and neighbours are no matter of weights; where points are sampled, they
        are one of the graph."""
        clouds = is_cloud(self.shape)
        base = Shape(shape.width, shape.depth, shape.kernel)
        key = replace(base, side=shape.side, near=shape.near) if clouds else base
        if key not in self._known:
            self._known[key] = self._made(key) if key == base else self._fewer(self.at(base), key)
        return self._known[key]

    def _fewer(self, base: View, shape: Shape) -> View:
        """`base` with fewer points and neighbours; its parameters are the same ones."""
        return View(fewer(twin(base.gm), sides(self.shape, shape.side)[0], shape.near), base.parts)

    def holding(self, gm: fx.GraphModule) -> "Views":
        """The same networks inside of `gm`: this large one with other weights."""
        found = copy.copy(self)
        found.gm = gm
        return found

    def _made(self, shape: Shape) -> View:
        small = _numbered(self.gm)
        removal = self._removal(shape.width, self._groups)
        if removal:
            small = without(small, removal, self._pieces)
        leave_out(small, {name for stage in self.stages for name in stage[max(0, len(stage) - shape.depth) :]})
        if shape.kernel:
            _crop(small, shape.kernel)
        full = dict(self.gm.named_parameters())
        parts = {name: _part(value, full[name].shape) for name, value in small.named_parameters()}
        return View(reshaped(small.float().eval()), parts)  # dropout would draw

    def _removal(self, share: float, asked: list[Group]) -> dict[Place, np.ndarray]:
        found: dict[Place, list[np.ndarray]] = {}
        for cell in (cell for group in asked for cell in group.cells):
            multiple = max(1, self._multiple // cell.together)
            left = width(cell.size, 100 * (1 - share), multiple)
            for place, indices in cell.indices.items():
                found.setdefault(place, []).append(indices[left:].ravel())
        joined = {place: np.unique(np.concatenate(parts)) for place, parts in found.items()}
        return {place: indices for place, indices in joined.items() if len(indices)}

    def _possible(self, space: Space) -> list[Group]:
        """The groups whose channels go without anything else; the others are `fixed`."""
        least = space.smallest.width
        removal = self._removal(least, self._groups)
        if not removal or unchanged(self.gm, removal, self._pieces, self.shape):
            return self._groups
        kept = []
        for group in self._groups:
            removal = self._removal(least, [group])
            if not removal or unchanged(self.gm, removal, self._pieces, self.shape):
                kept.append(group)
            else:
                self.fixed[group.outputs[0]] = "its removal changes more than it"
        return kept

    def _held(self, space: Space) -> Space:
        """`space` without what changes nothing in this network."""
        most = max((len(stage) for stage in self.stages), default=0)
        rings = max((rings_of(module) for module in self.gm.modules()), default=0)
        wide = [value for value in space.width if value == 1 or self._removal(value, self._groups)]
        held = Space(
            tuple(wide),
            tuple(depth for depth in space.depth if depth <= most),
            tuple(kernel for kernel in space.kernel if kernel <= rings),
            tuple(side for side in space.side if side == 1 or smaller_at(self.gm, side)),
            self._near(space.near),
        )
        if len(list(held)) == 1:
            raise BadInput(
                f"slim: of {space} nothing can be made smaller in this network (channels: "
                f"{'; '.join(f'{name}: {why}' for name, why in list(self.fixed.items())[:2]) or 'none'}); "
                "write other widths, depths or input sizes"
            )
        return held

    def _near(self, asked: tuple[float, ...]) -> tuple[float, ...]:
        """Those that leave different numbers of neighbours."""
        found: dict[tuple[int, ...], float] = {}
        for near in asked if is_cloud(self.shape) else asked[:1]:
            small = self.gm if near == 1 else smaller(self.gm, self.shape, near)
            if small is not None:
                found.setdefault(tuple(counts(small).values()), near)
        return tuple(found.values())


def is_cloud(shape: tuple[int, ...]) -> bool:
    """Whether inputs of this shape are points x 3."""
    return len(shape) == 2 and shape[1] == 3


def twin(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy that has the same parameters."""
    return copy.deepcopy(gm, {id(value): value for value in gm.parameters()})


def sides(shape: tuple[int, ...], side: float) -> tuple[int, ...]:
    """The input's shape at a share of its size: channels as they are, each side the nearest multiple of 4, at least
    8; the points of a cloud the nearest multiple of 8, at least 16 (or what it is, if that is less)."""
    if side != 1 and is_cloud(shape):
        return min(shape[0], max(16, 8 * round(shape[0] * side / 8))), 3
    if side == 1 or len(shape) != 3:
        return shape
    return (shape[0], *(min(size, max(8, 4 * round(size * side / 4))) for size in shape[1:]))


def smaller_at(gm: fx.GraphModule, side: float) -> bool:
    """Whether a network takes smaller inputs at this share of their size, and gives outputs of the same shape."""
    full = captured_shape(gm)
    shape = sides(full, side)
    return shape != full and smaller(gm, shape) is not None


@torch.no_grad()
def smaller(gm: fx.GraphModule, shape: tuple[int, ...], near: float = 1.0) -> fx.GraphModule | None:
    """The network for inputs of `shape`, with the same parameters, looking at this share of its neighbours; None where
    it does not run on them or gives outputs of another shape."""
    full, value = captured_shape(gm), next(gm.parameters())
    try:
        small = fewer(twin(gm), shape[0], near) if is_cloud(full) else gm
        outputs = [one.eval().forward(value.new_zeros(1, *own)) for one, own in ((gm, full), (small, shape))]
    except Exception:  # whatever a network's code raises on shapes that do not fit
        return None
    return small if outputs[0].shape == outputs[1].shape else None


def rings_of(module: nn.Module) -> int:
    """How many rings can be cut off a depthwise kernel that keeps the picture's size: 7x7 has two down to 3x3."""
    if not (isinstance(module, nn.Conv2d) and is_depthwise(module)) or isinstance(module.padding, str):
        return 0
    least = min(module.kernel_size)
    given = zip(module.padding, module.dilation, module.kernel_size, strict=True)
    same = least % 2 and all(pad == apart * (size - 1) // 2 for pad, apart, size in given)
    return max(0, (least - _LEAST_KERNEL) // 2) if same else 0


@torch.no_grad()
def _crop(gm: fx.GraphModule, rings: int) -> None:
    """Cuts up to `rings` rings off every depthwise kernel that has them, in place."""
    for module in gm.modules():
        cut = min(rings, rings_of(module))
        if cut:
            assert isinstance(module, nn.Conv2d), "`rings_of` looked"
            inner = module.weight[..., cut:-cut, cut:-cut].clone()
            module.weight = nn.Parameter(inner, requires_grad=module.weight.requires_grad)
            module.kernel_size = tuple(size - 2 * cut for size in module.kernel_size)
            given: Any = zip(module.padding, module.dilation, strict=True)
            module.padding = tuple(pad - cut * apart for pad, apart in given)
            module._reversed_padding_repeated_twice = [pad for pad in reversed(module.padding) for _ in (0, 1)]


def _ordered(gm: fx.GraphModule, found: list[Group], shape: tuple[int, ...]) -> fx.GraphModule:
    """A copy that computes the same, the channels that are worth most first."""
    cells = [group.cells[0] for group in found if len(group.cells) == 1 and movable(gm, group.cells[0])]
    moved = reduce(_moved, cells, copy.deepcopy(gm))
    if same(gm, moved, shape):
        return moved
    # Some channels have a fixed place, as beside zeros that a shortcut adds: those stay in their order.
    kept = copy.deepcopy(gm)
    for cell in cells:
        moved = _moved(kept, cell)
        kept = moved if same(kept, moved, shape) else kept
    return kept


def _moved(gm: fx.GraphModule, cell: Cell) -> fx.GraphModule:
    return permuted(gm, cell, np.argsort(-importance(cell, energies(gm)), kind="stable"))


def _numbered(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy in float64 whose parameters hold the number of each element, so that whatever surgery does to them can be
    read off what is left."""
    copied = copy.deepcopy(gm).double()
    for parameter in copied.parameters():  # laid out in one way, whenever that happens: sums then have one order
        parameter.data = torch.arange(parameter.numel(), dtype=torch.float64, device=parameter.device).view(
            parameter.shape
        )
    return copied


def _part(numbers: Tensor, full: torch.Size) -> Part:
    """What of a tensor of shape `full` has these numbers."""
    indices = numbers.detach().long()
    if not indices.ndim:
        return ()
    starts = np.unravel_index(int(indices.flatten()[0]), full)
    part = tuple(slice(int(start), int(start) + size) for start, size in zip(starts, indices.shape, strict=True))
    whole = torch.arange(full.numel()).view(full)
    return part if torch.equal(whole[part], indices) else indices
