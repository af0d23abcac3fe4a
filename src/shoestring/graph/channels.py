"""Which channels go together: groups of channels that depend on one another, in cells that have one width each."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch_pruning as tp
from torch import Tensor, fx, nn

from shoestring.graph.dependencies import LAYERS, Traced

OUT, IN, SPLIT = "out", "in", "split"
Place = tuple[str, str]  # module path and OUT or IN (norms, depthwise layers: OUT); the name of an fx node and SPLIT
_FOLLOWED = (*LAYERS, nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.PReLU)


@dataclass(frozen=True)
class Cell:
    """Channels that touch the same places, so that their number is one width. `indices`: place to int [size, k], the
    channels there that go with each one of the cell; k > 1 behind a flatten, and where the groups of a grouped
    convolution must stay equal."""

    indices: Mapping[Place, np.ndarray]

    @property
    def size(self) -> int:
        return len(next(iter(self.indices.values())))

    @property
    def together(self) -> int:
        """How many channels of a layer go at once."""
        return min(array.shape[1] for array in self.indices.values())


@dataclass(frozen=True)
class Group:
    """Channels that depend on one another. `outputs`: the layers whose output channels these are. `fault`: why they
    cannot be removed, empty when they can."""

    outputs: tuple[str, ...]
    cells: tuple[Cell, ...] = ()
    fault: str = ""


def groups(traced: Traced) -> tuple[Group, ...]:
    """torch-pruning's groups, read."""
    reader = _Reader(traced)
    return tuple(reader.group(found) for found in traced.found)


def ends(gm: fx.GraphModule) -> set[str]:
    """The layers whose output channels are the network's: between them and its output no layer mixes channels."""
    modules = dict(gm.named_modules())
    found: set[str] = set()
    seen: set[fx.Node] = set()
    waiting = [node for node in gm.graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        module = modules[str(node.target)] if node.op == "call_module" else nn.Identity()
        inside = [path for path, m in module.named_modules(prefix=str(node.target)) if isinstance(m, LAYERS)]
        found.update(inside)
        if not isinstance(module, LAYERS) or is_depthwise(module):
            waiting.extend(node.all_input_nodes)
    return found


def is_depthwise(module: nn.Module) -> bool:
    """One input and one output a group: channels pass through one by one."""
    return isinstance(module, nn.Conv1d | nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels


def width(channels: int, percent: float, multiple: int) -> int:
    """What is left of `channels`: the multiple nearest to the share that stays, of two the larger; at least one
    multiple, at most all."""
    fewer = [*range(multiple, channels, multiple), channels]
    target = channels * (1 - percent / 100)
    return min(fewer, key=lambda size: (abs(size - target), -size))


class _Reader:
    def __init__(self, traced: Traced):
        self.graph, self.splits = traced.graph, traced.splits
        self.modules = dict(traced.model.named_modules())
        self.paths = {module: path for path, module in self.modules.items()}
        owners: dict[Tensor, set[str]] = defaultdict(set)
        for path, module in self.modules.items():
            for parameter in module.parameters(recurse=False):
                owners[parameter].add(path)
        self.shared = {path for paths in owners.values() if len(paths) > 1 for path in paths}

    def group(self, found: tp.Group) -> Group:
        channels: dict[Place, dict[int, list[int]]] = {}  # place to channel of the root to channels there
        fault = ""
        for item in found:
            place = self._place(item.dep)
            if place is None:
                continue
            fault = fault or self._fault(item, place)
            there = channels.setdefault(place, defaultdict(list))
            for root, index in zip(item.root_idxs, item.idxs, strict=True):
                there[root].append(index)
        outputs = tuple(p for p, side in channels if side == OUT and isinstance(self.modules.get(p), LAYERS))
        if fault:
            return Group(outputs, fault=fault)
        atoms = self._atoms(channels)
        if atoms is None:
            return Group(outputs, fault="a grouped convolution gets a part of its groups from elsewhere")
        return Group(outputs, tuple(_cells(channels, atoms)))

    def _place(self, dep: Any) -> Place | None:
        """None where nothing must be changed: operations on each channel for itself."""
        module = dep.target.module
        if dep.target.type == tp.ops.OPTYPE.SPLIT:
            name = self.splits.get(dep.target.grad_fn)
            return None if name is None else (name, SPLIT)
        if module in self.paths:
            return self.paths[module], OUT if self.graph.is_out_channel_pruning_fn(dep.handler) else IN
        return ("", OUT) if isinstance(module, nn.Parameter) else None

    def _fault(self, item: Any, place: Place) -> str:
        """Why what happens at a place cannot be followed."""
        path, side = place
        if side == SPLIT:
            return ""
        if not path:
            return "a parameter that belongs to no layer takes part"
        module = self.modules[path]
        if not isinstance(module, _FOLLOWED):
            return f"{path} ({type(module).__name__}) works on all channels at once"
        if path in self.shared:
            return f"{path} shares its weight"
        if isinstance(module, nn.Conv1d | nn.Conv2d) and module.groups == module.out_channels != module.in_channels:
            return f"{path} has several inputs a group" if module.groups > 1 else ""
        wide = self.graph.get_out_channels(module) if side == OUT else self.graph.get_in_channels(module)
        return "" if max(item.idxs) < wide else f"a reshape before {path} cannot be followed"

    def _atoms(self, channels: Mapping[Place, Mapping[int, Sequence[int]]]) -> list[list[int]] | None:
        """Channels of the root that go together: each alone, unless a grouped convolution must keep as many in each of
        its groups. None when a group of one is not here."""
        roots = sorted({root for there in channels.values() for root in there})
        atom = {root: root for root in roots}
        for (path, side), there in channels.items():
            module = self.modules.get(path)
            if side == SPLIT or not isinstance(module, nn.Conv1d | nn.Conv2d) or module.groups == 1:
                continue
            if is_depthwise(module):
                continue
            wide = (module.out_channels if side == OUT else module.in_channels) // module.groups
            places: dict[int, list[int]] = defaultdict(list)
            for root, indices in there.items():
                for index in indices:
                    places[index % wide].append(root)
            for same in places.values():
                if len(same) != module.groups:
                    return None
                joined = {atom[root] for root in same}
                atom = {root: min(joined) if of in joined else of for root, of in atom.items()}
        found: dict[int, list[int]] = defaultdict(list)
        for root, of in atom.items():
            found[of].append(root)
        return list(found.values())


def _cells(channels: Mapping[Place, Mapping[int, Sequence[int]]], atoms: Sequence[Sequence[int]]) -> Iterator[Cell]:
    """Atoms that touch the same places, with as many channels in each, side by side."""
    cells: dict[tuple[tuple[Place, int], ...], list[dict[Place, list[int]]]] = defaultdict(list)
    for atom in atoms:
        touched = {
            place: sorted(index for root in atom for index in there.get(root, ())) for place, there in channels.items()
        }
        touched = {place: indices for place, indices in touched.items() if indices}
        cells[tuple((place, len(indices)) for place, indices in touched.items())].append(touched)
    for same in cells.values():
        yield Cell({place: np.array([touched[place] for touched in same]) for place in same[0]})
