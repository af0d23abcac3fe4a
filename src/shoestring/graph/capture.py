"""Capture: a model as a torch.fx graph, in which every operation is a node that methods can read and change.

What symbolic tracing cannot follow is kept whole: a submodule whose Python code depends on the data becomes one node.
Code that depends only on shapes is followed, with the shapes of the input given.
"""

import copy
import operator
import re
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.conv import _ConvNd

from shoestring.core.errors import BadInput
from shoestring.graph.sums import Sum

_TORCH = str(Path(torch.__file__).parent)
_SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device"}
_SHAPE_METHODS = {"size", "dim", "ndimension", "numel"}
_OPERATORS = set(filter(callable, vars(operator).values()))
_FRAME = re.compile(r'File "(.+)", line (\d+)')


def capture(model: nn.Module, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """The graph of `model` in eval mode, for one input of `input_shape` (no batch axis).

    The graph owns copies of the modules; `model` stays as it is. Every node carries the shape of its result
    (`meta["tensor_meta"]`, batch 1). Raises BadInput when the model does not run on such an input, when what cannot be
    traced is not inside a submodule or would take every layer with it, or when the graph computes something else than
    the model; each names the line.
    """
    model = copy.deepcopy(model).eval()
    example = example_input(model, input_shape)
    try:
        expected = _run(model, example)
    except Exception as error:  # whatever the user's code raises
        shape = "x".join(map(str, input_shape))
        raise BadInput(f"capture: the model does not run on {shape}: {_told(error)}; give its --input") from error
    graph = _trace(model, example)
    try:
        torch.testing.assert_close(_run(ShapeProp(graph).propagate, example), expected, equal_nan=True)
    except Exception as error:  # a mismatch, or a graph that does not run
        raise BadInput(
            f"capture: the graph of {type(model).__name__} does not compute what the model does: {_told(error)}; "
            "forward must not change what it reads from self, nor choose by the data outside a submodule"
        ) from error
    return graph


def example_input(model: nn.Module, input_shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [1, *input_shape], always the same, with the type and device of the first parameter."""
    noise = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))
    return noise.to(next(model.parameters(), noise))


def captured_shape(gm: fx.GraphModule) -> tuple[int, ...]:
    """Of the input that `gm` was captured with, without the batch axis."""
    given = next(node for node in gm.graph.nodes if node.op == "placeholder")
    return tuple(given.meta["tensor_meta"].shape[1:])


def reshaped(gm: fx.GraphModule) -> fx.GraphModule:
    """`gm`, which was changed, its nodes with the shapes that they have now on the input it was captured with."""
    with torch.no_grad():
        ShapeProp(gm).propagate(example_input(gm, captured_shape(gm)))
    return gm


def source_line(node: fx.Node) -> str:
    """`file.py:12`: the innermost line of the model's code (not torch's) that made this node; empty when unknown."""
    frames = [match.groups() for match in _FRAME.finditer(node.stack_trace or "")]
    own = [(file, line) for file, line in frames if not file.startswith(_TORCH) and file != __file__]
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""


class _Tracer(fx.Tracer):
    """Follows everything but `whole`, the paths of the submodules to keep as one node."""

    record_stack_traces = True

    def __init__(self, example: Tensor, whole: set[str]):
        super().__init__()
        self.example, self.whole = example, whole
        self.inside: list[str] = []  # the submodules being followed, outermost first

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = module_qualified_name in self.whole or isinstance(m, Sum)  # whose weights are no data
        return known or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.inside.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()  # not on an exception: the last one entered is then the culprit
        return result

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, type_expr: Any = None
    ) -> fx.Node:
        """An operator's node is called after it, without its overload: as the exporter calls it."""
        if isinstance(target, torch._ops.OpOverload):
            name = target.name().partition("::")[2].partition(".")[0]
        return super().create_node(kind, target, args, kwargs, name, type_expr)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """A condition on shapes alone is answered by running the graph so far; one on data cannot be."""
        if not _of_shapes(obj.node):
            return super().to_bool(obj)
        interpreter = fx.Interpreter(self.root, garbage_collect_values=False, graph=self.graph)
        interpreter.run(self.example)
        return bool(interpreter.env[obj.node])


def _of_shapes(node: fx.Node) -> bool:
    """True when the node's value follows from the shape and type of tensors, not from their content."""
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _SHAPE_ATTRIBUTES
    return node.target in _OPERATORS and all(map(_of_shapes, node.all_input_nodes))


def _trace(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Traces again and again, each time keeping one more submodule whole, until tracing succeeds."""
    whole: set[str] = set()
    while True:
        tracer = _Tracer(example, whole)
        try:
            return fx.GraphModule(model, tracer.trace(model), type(model).__name__)
        except Exception as error:  # the model itself ran, so whatever this is, tracing is the cause
            culprits = set(tracer.inside[-1:]) - whole
            whole |= culprits
            if not culprits or _hide_all_layers(model, whole):
                if isinstance(error, BadInput):
                    raise  # a network that knows why it has no graph says so itself
                raise BadInput(
                    f"capture: cannot trace {_told(error)}; move this code into a submodule of its own, without layers"
                ) from error


def _hide_all_layers(model: nn.Module, whole: set[str]) -> bool:
    """True when no convolution or linear layer would be left to work on."""
    layers = [path for path, module in model.named_modules() if isinstance(module, _ConvNd | nn.Linear)]
    return bool(layers) and all(any(f"{path}.".startswith(f"{kept}.") for kept in whole) for path in layers)


def _run(function: Any, example: Tensor) -> Any:
    """The function's result without gradients, any random numbers in it being the same on every call."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(example.clone())


def _told(error: Exception) -> str:
    """`file.py, line 12 (the code): message`, the line being the innermost outside torch."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if not frame.filename.startswith(_TORCH)]
    message = " ".join(str(error).split()) or type(error).__name__
    return f"{own[-1].filename}, line {own[-1].lineno} ({own[-1].line}): {message}" if own else message
