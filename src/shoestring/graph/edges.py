"""Edges: which tensors of a captured network must be quantised so that its integer layers run in integers, and where.

An integer node reads integer codes and writes integer codes. So every tensor that an integer node reads is quantised,
and so is every tensor that it writes, unless no integer node sees what follows (the scores of a classifier stay
float). A batch norm, ReLU or ReLU6 right behind it belongs to it. One tensor has one grid: where readers want fewer
bits than others, they read a second, coarser grid behind the first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import fx, nn

from shoestring.graph.fold import foldable
from shoestring.graph.nodes import ACTIVATION, COMBINATION, MOVE, POOL, SATURATION, SPLIT, does, values

M = TypeVar("M", bound=nn.Module)

WIDE = 8  # bits of what integer layers hand to adds, gates, pools and float operations


@dataclass(frozen=True)
class Edge:
    """A tensor to quantise. `node` writes it; `readers`: bits to the nodes that read it at that many, widest first,
    each grid being applied to the values of the one before. `activated`: an activation function wrote it."""

    node: fx.Node
    readers: Mapping[int, tuple[fx.Node, ...]]
    activated: bool = False


def edges(gm: fx.GraphModule, bits: Mapping[str, int]) -> tuple[Edge, ...]:
    """The edges of `gm` in execution order, when the modules of `bits` (path to the bits of what they read) run in
    integers. Additions, products, concatenations, matrix products and averages of integer tensors do too, on 8 bits."""
    return _Planner(gm, bits).edges()


def insert(gm: fx.GraphModule, found: tuple[Edge, ...], make: Callable[[Edge, int], M]) -> dict[str, M]:
    """Puts the modules that `make(edge, bits)` gives on the edges of `gm`, in place: path to module. They are called
    `NODE_8`, `NODE_4`, after the node that writes the tensor (and have a name of the network's own left alone)."""
    made = {}
    for edge in found:
        source = edge.node
        for width, readers in edge.readers.items():
            path = f"{edge.node.name}_{width}"
            while hasattr(gm, path):
                path += "_"
            made[path] = make(edge, width)
            gm.add_submodule(path, made[path])
            with gm.graph.inserting_after(source):
                quantised = gm.graph.call_module(path, (source,))
            quantised.meta = dict(edge.node.meta)
            for reader in readers:
                reader.replace_input_with(edge.node, quantised)
            source = quantised
    gm.graph.lint()
    gm.recompile()
    return made


class _Planner:
    def __init__(self, gm: fx.GraphModule, bits: Mapping[str, int]):
        self.gm, self.bits = gm, bits
        self.nodes = list(gm.graph.nodes)
        self.integer: set[fx.Node] = set()  # nodes that run in integers
        self.writes: set[fx.Node] = set()  # the last node of each: itself, or what belongs to it
        self.inner: set[fx.Node] = set()  # those before the last
        self._find_integer()
        self.seen = self._seen_by_integer()

    def edges(self) -> tuple[Edge, ...]:
        found = []
        for node in self.nodes:
            asked = {} if node in self.inner else self._asked(node)
            if does(self.gm, node, MOVE):
                asked = {width: readers for width, readers in asked.items() if width < self._carried(node)}
            if asked and not does(self.gm, node, SPLIT):
                found.append(Edge(node, asked, does(self.gm, node, ACTIVATION)))
        return tuple(found)

    def _carried(self, node: fx.Node) -> int:
        """The bits of the grid that a move finds its values on: the most that its readers ask for or, for one of the
        parts of a tensor, that the readers of any part do."""
        source = node.all_input_nodes[0]
        return max(self._asked(source if does(self.gm, source, SPLIT) else node), default=0)

    def _find_integer(self) -> None:
        derived: set[fx.Node] = set()  # what is made of integer tensors only
        for node in self.nodes:
            weighted = node.op == "call_module" and str(node.target) in self.bits
            from_integers = bool(node.all_input_nodes) and derived.issuperset(values(node))
            if weighted or (from_integers and self._combines(node)):
                self.integer.add(node)
                chain = self._chain(node)
                self.inner.update(chain[:-1])
                self.writes.add(chain[-1])
            if weighted or from_integers:
                derived.add(node)

    def _combines(self, node: fx.Node) -> bool:
        """A sum or product with a constant does not: that one has no grid."""
        pools = does(self.gm, node, POOL)
        return pools or (len(node.all_input_nodes) > 1 and does(self.gm, node, COMBINATION))

    def _chain(self, node: fx.Node) -> list[fx.Node]:
        """`node`, the batch norm and the ReLU behind it that belong to it."""
        chain = [node]
        if (follower := self._only_user(chain[-1])) is not None and foldable(self.gm, follower):
            chain.append(follower)
        if (follower := self._only_user(chain[-1])) is not None and does(self.gm, follower, SATURATION):
            chain.append(follower)
        return chain

    def _only_user(self, node: fx.Node) -> fx.Node | None:
        return next(iter(node.users)) if len(node.users) == 1 else None

    def _seen_by_integer(self) -> set[fx.Node]:
        """The nodes from which an integer node is reached."""
        seen: set[fx.Node] = set()
        for node in reversed(self.nodes):
            if any(user in seen or user in self.integer for user in node.users):
                seen.add(node)
        return seen

    def _asked(self, node: fx.Node) -> dict[int, tuple[fx.Node, ...]]:
        """The bits that each reader of what `node` writes asks for, widest first."""
        asked: dict[int, list[fx.Node]] = {}
        for user in node.users:
            if width := self._asked_by(user, node):
                asked.setdefault(width, []).append(user)
        return {width: tuple(asked[width]) for width in sorted(asked, reverse=True)}

    def _asked_by(self, user: fx.Node, node: fx.Node) -> int:
        """0 when the reader takes floats: what a float node writes for another."""
        if user in self.integer:
            return self.bits.get(str(user.target), WIDE) if user.op == "call_module" else WIDE
        moves = does(self.gm, user, MOVE) and user.all_input_nodes[0] is node  # and does not read its shape only
        through = max(self._asked(user), default=0) if moves else 0
        return through or (WIDE if node in self.writes and node in self.seen else 0)
