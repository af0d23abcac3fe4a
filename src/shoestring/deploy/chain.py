"""A network with exits in pieces that run one after the other: each gives an answer and hands on what the next needs.

They are cut where a tensor is quantised: its codes are handed on, so that nothing is quantised twice.
"""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from shoestring.core.errors import BadInput
from shoestring.deploy.geometry import define
from shoestring.deploy.rewrite import infer
from shoestring.deploy.runtimes import Session
from shoestring.deploy.walk import section


def cut(whole: ModelProto, heads: Sequence[str]) -> list[ModelProto]:
    """The stages of `whole` (outputs: its own answer, then those of its exits, the first exit first). `heads`: of each
    exit the layer that reads the network. Stage i gives (answer of exit i, what it hands on); the last one the
    network's own answer. Raises BadInput where a stage needs more than what is handed on to it."""
    final, *exits = [value.name for value in whole.graph.output]
    typed, stages, start = infer(whole), [], whole.graph.input[0].name
    for answer, head in zip(exits, heads, strict=True):
        handed = edge(whole, head)
        stages.append(_stage(typed, start, [answer, handed]))
        start = handed
    return [*stages, _stage(typed, start, [final])]


def alone(whole: ModelProto, answer: int = 0) -> ModelProto:
    """The graph that gives one of the outputs of `whole` from its input, and nothing else."""
    return _stage(infer(whole), whole.graph.input[0].name, [whole.graph.output[answer].name])


def edge(model: ModelProto, layer: str) -> str:
    """The tensor that `layer` reads, as codes where it is quantised. Raises BadInput when there is no such layer."""
    makers = {name: node for node in model.graph.node for name in node.output}
    read = next((node.input[0] for node in model.graph.node if node.name == layer), None)
    if read is None:
        raise BadInput(f"chain: the graph has no node {layer!r} to cut at; name the first layer of an exit")
    maker = makers.get(read)
    return str(maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else read)


def run(stages: Sequence[Session], x: np.ndarray) -> list[np.ndarray]:
    """The answer of every stage, [1, ...] each, for an input [1, ...]."""
    given, found = {stages[0].inputs[0].name: x}, list[np.ndarray]()
    for stage in stages:
        outputs = stage(*(given[spec.name] for spec in stage.inputs))
        found.append(outputs[0])
        given = dict(zip((spec.name for spec in stage.outputs[1:]), outputs[1:], strict=True))
    return found


def join(stages: Sequence[ModelProto]) -> ModelProto:
    """What `cut` took apart: one graph from the input to the last answer, without those of the exits. Raises BadInput
    where stages make something of one name in two ways: they were not cut out of one graph."""
    whole = ModelProto()
    whole.CopyFrom(stages[-1])
    graph = whole.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:], graph.input[:]
    graph.input.extend(stages[0].graph.input)
    made: dict[str, NodeProto] = {}
    kept: dict[str, TensorProto] = {}
    for stage in stages:  # what a weight is made of may be in several of them
        for tensor in stage.graph.initializer:
            _require_same(tensor.name, kept.setdefault(tensor.name, tensor), tensor)
        for node in stage.graph.node:
            names = list(filter(None, node.output))
            if made.keys().isdisjoint(names):
                graph.node.append(node)
            for name in names:
                _require_same(name, made.setdefault(name, node), node)
    graph.initializer.extend(kept.values())
    define(whole)
    return alone(whole)


def _require_same(name: str, one: NodeProto | TensorProto, other: NodeProto | TensorProto) -> None:
    if one != other:
        raise BadInput(f"chain: two stages make {name[:60]!r} in two ways; give stages of one graph")


def _stage(typed: ModelProto, start: str, ends: Sequence[str]) -> ModelProto:
    stage = section(typed, start, ends)
    known = {value.name for value in (*stage.graph.input, *stage.graph.initializer)} | {""}
    for node in stage.graph.node:
        if missing := set(node.input) - known:
            raise BadInput(
                f"chain: {node.name} needs {min(missing)}, which does not come through {start}; cut elsewhere"
            )
        known.update(node.output)
    return stage
