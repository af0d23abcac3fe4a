"""Walking along a graph with many inputs: the values of any tensor, one input at a time, without starting at the front.

Where all that a graph still needs is in one tensor, its values can be kept and the walk goes on from there.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper
from onnx.utils import Extractor

from shoestring.deploy.rewrite import infer, initialisers
from shoestring.deploy.runtimes import get

ROOM = 2**29  # bytes of values that a walk keeps


class Walk:
    """`model` may be changed at any time in what lies behind the place that the walk has reached. `inputs`: float32
    [1, ...] each."""

    def __init__(self, model: ModelProto, inputs: Sequence[np.ndarray], room: int = ROOM):
        self.model = model
        self._room = room
        self._place = model.graph.input[0].name
        self._values: Sequence[np.ndarray] = inputs

    @property
    def inputs(self) -> int:
        """How many there are."""
        return len(self._values)

    def first(self, count: int) -> "Walk":
        """The same place with the first inputs only."""
        fewer = copy.copy(self)
        fewer._values = self._values[:count]
        return fewer

    def read(self, names: Sequence[str]) -> Iterator[list[np.ndarray]]:
        """The tensors `names`, for one input after the other."""
        given = self._place in names
        wanted = [name for name in dict.fromkeys(names) if name != self._place]
        session = None
        if wanted:
            part = section(self.model, self._place, wanted)
            session = get("onnxruntime").open(part.SerializeToString(), threads=0)
        for value in self._values:
            found = dict(zip(wanted, session(value), strict=True)) if session is not None else {}
            if given:
                found[self._place] = value
            yield [found[name] for name in names]

    def go(self, node: str) -> None:
        """Goes on to the last tensor in front of `node` that holds all there is, where its values find room."""
        place = last_cut(self.model, node)
        if place is None or place == self._place:
            return
        kept: list[np.ndarray] = []
        for (value,) in self.read([place]):
            if value.nbytes * len(self._values) > self._room:
                return
            kept.append(value)
        self._place, self._values = place, kept


def section(model: ModelProto, start: str, ends: Sequence[str]) -> ModelProto:
    """The part of `model` (shapes inferred) that makes the tensors `ends` of the tensor `start`."""
    known = {value.name for value in [*model.graph.value_info, *model.graph.output, *model.graph.input]}
    if missing := [name for name in (start, *ends) if name not in known]:
        model = infer(model)
        known = {value.name for value in [*model.graph.value_info, *model.graph.output, *model.graph.input]}
        for name in missing:
            if name not in known:
                model.graph.value_info.append(helper.make_empty_tensor_value_info(name))
    part: ModelProto = Extractor(model).extract_model([start], list(ends))
    return part


def last_cut(model: ModelProto, node: str) -> str | None:
    """The last tensor made before `node` through which all goes that `node` and what follows it read."""
    constants = set(initialisers(model))
    order = list(model.graph.node)
    last: dict[str, int] = {value.name: len(order) for value in model.graph.output}
    for index, one in enumerate(order):
        for name in one.input:
            last[name] = max(last.get(name, 0), index)
    fixed: set[str] = set(constants)
    live: set[str] = set()
    found = None
    for index, one in enumerate(order):
        if one.name == node:
            break
        if _constant(one, fixed):
            fixed.update(one.output)
            continue
        live.update(name for name in one.output if name in last)
        live = {name for name in live if last[name] > index}
        # In front of a DequantizeLinear values are four times smaller, and the layer behind it stays in integers.
        if len(live) == 1 and one.op_type != "DequantizeLinear" and not _waiting(model, last, index):
            (found,) = live
    return found


def _constant(node: NodeProto, fixed: set[str]) -> bool:
    return all(not name or name in fixed for name in node.input)


def _waiting(model: ModelProto, last: dict[str, int], index: int) -> bool:
    """Whether the graph's own input is read after `index`."""
    return last.get(model.graph.input[0].name, -1) > index


def upstream(model: ModelProto, tensor: str) -> set[str]:
    """Names of the nodes that `tensor` is made by."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    open_ = [tensor]
    while open_:
        node = makers.get(open_.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            open_ += node.input
    return found
