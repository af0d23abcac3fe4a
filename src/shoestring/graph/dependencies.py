"""torch-pruning's dependency graph of a captured network (DepGraph, arXiv 2301.12900), with its guesses set right.

It follows autograd's graph and knows no shapes; where channels are joined or split, it guesses them from the layers
around. Here they are recorded while the graph runs.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, fx, nn
from torch_pruning.dependency.index_mapping import _ConcatIndexMapping, _SplitIndexMapping

from shoestring.core.errors import BadInput
from shoestring.graph.capture import example_input

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Traced:
    """`model`: the copy that was followed. `found`: torch-pruning's groups, all channels of each. `splits`: autograd's
    node to the name of the fx node that splits channels; `pieces`: that name to the channels of each piece."""

    model: fx.GraphModule
    graph: tp.DependencyGraph
    found: tuple[tp.Group, ...]
    splits: Mapping[Any, str]
    pieces: Mapping[str, tuple[int, ...]]


def trace(gm: fx.GraphModule, shape: tuple[int, ...]) -> Traced:
    """`gm`, which stays as it is, followed for one input of `shape`. Raises BadInput when torch-pruning fails on it."""
    model = copy.deepcopy(gm).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # what does not learn has no gradient to follow
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # autograd forbids it on the pieces of a split
    recorder = _Recorder(model)
    graph = tp.DependencyGraph()
    try:
        # It warns when it guesses too deeply; the guesses that matter are not used.
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            graph.build_dependency(model, example_input(model, shape), recorder.forward, verbose=False)
            _set_right(graph, recorder.sizes)
            found = tuple(graph.get_all_groups(ignored_layers=[], root_module_types=list(LAYERS)))
    except Exception as error:  # whatever a library raises on a network it does not know
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(
            f"torch-pruning cannot follow this network ({told}); write another method, or take the part that "
            "it stumbles on out of the model"
        ) from error
    return Traced(model, graph, found, recorder.splits, recorder.pieces)


class _Recorder(fx.Interpreter):
    """Runs the graph and notes, by autograd's nodes, how many channels each result has and which node splits them."""

    def __init__(self, gm: fx.GraphModule):
        super().__init__(gm, garbage_collect_values=False)  # autograd's nodes are told apart by identity
        self.sizes: dict[tuple[Any, int], int] = {}
        self.splits: dict[Any, str] = {}
        self.pieces: dict[str, tuple[int, ...]] = {}

    def forward(self, model: nn.Module, example: Tensor) -> Any:
        del model
        return self.run(example)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.ndim > 1:
            self.sizes[result.grad_fn, result.output_nr] = result.shape[1]
        elif isinstance(result, tuple | list) and result and all(isinstance(piece, Tensor) for piece in result):
            self._note_pieces(n, result)
        return result

    def _note_pieces(self, node: fx.Node, pieces: tuple[Tensor, ...] | list[Tensor]) -> None:
        for piece in pieces:
            if piece.ndim > 1:
                self.sizes[piece.grad_fn, piece.output_nr] = piece.shape[1]
        whole = self.env[node.all_input_nodes[0]]
        if isinstance(whole, Tensor) and sum(piece.shape[1] for piece in pieces if piece.ndim > 1) == whole.shape[1]:
            self.splits[pieces[0].grad_fn] = node.name
            self.pieces[node.name] = tuple(piece.shape[1] for piece in pieces)


def _set_right(graph: tp.DependencyGraph, sizes: Mapping[tuple[Any, int], int]) -> None:
    """The offsets at which channels are joined and split, from recorded sizes: torch-pruning guesses them from the
    layers around, and takes the pieces of a split in the order in which it met them, which is not their own. Of a
    dependency's two mappings the first is applied first: a piece is cut out before it is joined, and the other way
    round on the way back."""
    nodes = [n for n in graph.module2node.values() if n.type in (tp.ops.OPTYPE.CONCAT, tp.ops.OPTYPE.SPLIT)]
    for node in nodes:
        for edge in (*node.dependencies, *(e for near in (*node.inputs, *node.outputs) for e in near.dependencies)):
            if node in (edge.source, edge.target):
                edge.index_mapping[:] = [None, None]
        node.enable_index_mapping = False  # or it would guess again
    for node in nodes:
        made = node.grad_fn
        if getattr(made, "_saved_dim", 1) != 1:
            continue
        if node.type == tp.ops.OPTYPE.CONCAT:
            sources = list(made.next_functions)
            offsets = _offsets([sizes.get(source) for source in sources])
            for other in _unique(node.inputs):
                places = [offsets[i] for i, (source, _) in enumerate(sources) if source is other.grad_fn and offsets]
                _map(other, node, 1, [_ConcatIndexMapping(place) for place in places])
                _map(node, other, 0, [_ConcatIndexMapping(place, reverse=True) for place in places])
        else:
            offsets = _offsets([sizes[made, number] for number in range(len(sizes)) if (made, number) in sizes])
            for other in _unique(node.outputs):
                places = [offsets[i] for source, i in other.grad_fn.next_functions if source is made and offsets]
                _map(node, other, 0, [_SplitIndexMapping(place) for place in places])
                _map(other, node, 1, [_SplitIndexMapping(place, reverse=True) for place in places])


def _offsets(widths: list[int | None]) -> list[list[int]]:
    """[first, behind the last] of each part; none when a width is not known."""
    known = [width for width in widths if width is not None]
    ends = np.cumsum([0, *known]).tolist()
    return [ends[i : i + 2] for i in range(len(known))] if len(known) == len(widths) else []


def _map(source: Any, target: Any, slot: int, mappings: list[Any]) -> None:
    """Gives the edges between two nodes, in order, their mappings."""
    edges = [dependency for dependency in source.dependencies if dependency.target is target]
    for edge, mapping in zip(edges, mappings, strict=False):
        edge.index_mapping[slot] = mapping


def _unique(nodes: Iterable[Any]) -> Iterator[Any]:
    return iter({id(node): node for node in nodes}.values())
