"""An ONNX graph to lower: its nodes, and the refusal that names one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from onnx import AttributeProto, ModelProto, NodeProto, helper

from shoestring.core.errors import BadInput


class Unsupported(BadInput):
    """What the engine cannot execute. `node`: the node's position in the graph; the walk through the graph knows it."""

    def __init__(self, message: str, node: int | None = None) -> None:
        super().__init__(message)
        self.node = node


@dataclass(frozen=True)
class Node:
    """`index`: its position in the graph. Names of inputs that are left out are ''."""

    index: int
    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: NodeProto = field(repr=False)

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        return {item.name: _value(item) for item in self.proto.attribute}

    def refused(self, why: object) -> Unsupported:
        return Unsupported(f"engine: {self.name} ({self.op}): {why}", self.index)


def _value(item: AttributeProto) -> Any:
    """Of an attribute; the common kinds without the checks that cost `helper` most of its time."""
    field = _FIELDS.get(item.type)
    if field is None or item.ref_attr_name:
        return helper.get_attribute_value(item)
    value = getattr(item, field)
    return list(value) if field == "ints" else value


_FIELDS = {AttributeProto.INT: "i", AttributeProto.INTS: "ints", AttributeProto.FLOAT: "f", AttributeProto.STRING: "s"}


def nodes_of(model: ModelProto) -> list[Node]:
    found = []
    for index, node in enumerate(model.graph.node):
        outputs = tuple(node.output)
        name = node.name or (outputs[0] if outputs else f"node {index}")
        op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        found.append(Node(index, op, name, tuple(node.input), outputs, node))
    return found
