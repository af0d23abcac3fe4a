"""Networks that the engine can execute but for a little at their ends, which is left to another runtime."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, ValueInfoProto, helper, shape_inference

from shoestring.engine.lower import lower
from shoestring.engine.lowering.graph import Unsupported
from shoestring.engine.program import Program

MOST_LEFT = 0.05  # of the multiplications


@dataclass(frozen=True)
class Parts:
    """A graph in pieces, which run one after the other and pass tensors on by name: `head` reads inputs of the graph,
    `program` inputs and what the head writes, `tail` any of these. `left`: their share of the multiplications."""

    head: ModelProto | None
    program: Program
    tail: ModelProto | None
    left: float = 0.0


def split(model: ModelProto) -> Parts:
    """All of `model` as a program, or but for float operators in front of the first quantiser, and for nodes that the
    engine lacks with all that depends on them. Raises Unsupported, naming the first such node, where that would be more
    than a twentieth of the multiplications."""
    try:
        return Parts(None, lower(model), None)
    except Unsupported as refused:
        first = last = refused
    pieces, middle = _Pieces(model), list(range(len(model.graph.node)))
    while True:
        if last.node is None or not pieces.give_up(middle[last.node]) or pieces.left() > MOST_LEFT:
            raise first
        middle = pieces.middle()
        try:
            program = lower(pieces.model(middle))
        except Unsupported as refused:
            last = refused
            continue
        if not program.outputs:  # nothing that anybody reads is left to it
            raise first
        head, tail = (pieces.model(sorted(side)) if side else None for side in (pieces.head, pieces.tail))
        return Parts(head, program, tail, pieces.left())


class _Pieces:
    """Which nodes the head and the tail have, as positions in the graph."""

    def __init__(self, model: ModelProto) -> None:
        self.source = shape_inference.infer_shapes(model)
        graph = self.source.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.head: set[int] = set()
        self.tail: set[int] = set()
        self.values: dict[str, ValueInfoProto] = {
            value.name: value for value in (*graph.value_info, *graph.input, *graph.output)
        }
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.constant = self._constants()

    def give_up(self, index: int) -> bool:
        """Puts a node into the head, with what it needs, or into the tail, with what needs it. False: no use."""
        before = self._needed(index)
        floats = all(self.nodes[at].op_type != "QuantizeLinear" for at in before)
        if index in self.constant or index in self.head | self.tail:
            return False
        if floats and not before & self.tail:
            self.head |= before - self.constant
        else:
            self.tail |= self._dependent(index) - self.constant
        return bool(self.middle())

    def middle(self) -> list[int]:
        """The nodes of the program, with the constants that it needs."""
        own = set(range(len(self.nodes))) - self.head - self.tail - self.constant
        return sorted(own | self._feeding(own))

    def model(self, indices: Collection[int]) -> ModelProto:
        """The graph of these nodes. Its inputs are what others write, its outputs what others read."""
        own = set(indices)
        own |= self._feeding(own)
        nodes = [self.nodes[index] for index in sorted(own)]
        made = {name for node in nodes for name in node.output if name}
        read = dict.fromkeys(name for node in nodes for name in node.input if name)
        others = {name for index, node in enumerate(self.nodes) if index not in own for name in node.input}
        others |= {value.name for value in self.source.graph.output}
        constants = {name for index in self.constant for name in self.nodes[index].output}
        graph = helper.make_graph(
            nodes,
            self.source.graph.name or "part",
            [self._value(name) for name in read if name not in made and name not in self.stored],
            [self._value(name) for name in self.makers if name in made & others - constants],
            [self.stored[name] for name in read if name in self.stored],
        )
        called = {(node.domain, node.op_type) for node in nodes}
        return helper.make_model(
            graph,
            functions=[each for each in self.source.functions if (each.domain, each.name) in called],
            opset_imports=self.source.opset_import,
            ir_version=self.source.ir_version,
            producer_name="shoestring",
        )

    def left(self) -> float:
        """The share of the multiplications that is not the program's."""
        costs = [self._multiplications(node) for node in self.nodes]
        return sum(costs[index] for index in self.head | self.tail) / max(sum(costs), 1)

    def _constants(self) -> set[int]:
        """Nodes that read nothing but constants: weights being dequantised."""
        found: set[int] = set()
        known = set(self.stored)
        for index, node in enumerate(self.nodes):
            if all(name in known for name in node.input if name):
                found.add(index)
                known.update(node.output)
        return found

    def _feeding(self, own: Collection[int]) -> set[int]:
        """The constant nodes that these read, and what those read."""
        found: set[int] = set()
        for index in sorted(own, reverse=True):
            read = {self.makers[name] for name in self.nodes[index].input if name in self.makers} & self.constant
            found |= read.union(*map(self._needed, read))
        return found

    def _needed(self, index: int) -> set[int]:
        """A node and all that it depends on."""
        found, left = {index}, [index]
        while left:
            for name in self.nodes[left.pop()].input:
                if name in self.makers and self.makers[name] not in found:
                    found.add(self.makers[name])
                    left.append(self.makers[name])
        return found

    def _dependent(self, index: int) -> set[int]:
        """A node and all that depend on it."""
        found, names = {index}, set(self.nodes[index].output)
        for at in range(index + 1, len(self.nodes)):
            if names & set(self.nodes[at].input):
                found.add(at)
                names.update(self.nodes[at].output)
        return found

    def _value(self, name: str) -> ValueInfoProto:
        if name not in self.values:
            raise Unsupported(f"engine: the shape of {name} cannot be inferred, so that the graph cannot be cut there")
        return self.values[name]

    def _multiplications(self, node: NodeProto) -> int:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulNBits"):
            return 0
        shapes = [self._shape(name) for name in (*node.input[:2], node.output[0])]
        x, weight, y = shapes
        if node.op_type == "Conv":
            return math.prod(y) * math.prod(weight[1:])
        return math.prod(x) * math.prod(weight[1:]) if node.op_type == "ConvTranspose" else math.prod(y) * x[-1]

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self.stored:
            return tuple(self.stored[name].dims)
        return tuple(axis.dim_value or 1 for axis in self._value(name).type.tensor_type.shape.dim)
