"""What a node of a captured graph does, in one vocabulary for modules, functions and methods."""

import re

from torch import fx, nn

from shoestring.geometry.operators import TAKE

_SPELT = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "truediv": "div", "matmul": "mat_mul"}
# In lower case, as `operation` spells them.
ACTIVATION = re.compile("relu|relu6|silu|hardswish|hardsigmoid|sigmoid|hardtanh|leakyrelu|gelu|tanh|elu|mish|clamp")
PAD = re.compile("pad|zeropad")
SATURATION = re.compile("relu|relu6")  # what a quantiser from zero upwards does by itself
MOVE = re.compile(  # the same values in other places, or some of them
    "identity|dropout|flatten|unflatten|view|reshape|squeeze|unsqueeze|contiguous|getitem|permute|transpose|chunk|split"
    "|maxpool|adaptivemaxpool|amax|take|pad|zeropad"
)
SPLIT = re.compile("chunk|split")  # moves that write several tensors
COMBINATION = re.compile("add|mul|cat|concat|matmul|bmm")
POOL = re.compile("mean|avgpool|adaptiveavgpool")


def operation(node: fx.Node, module: nn.Module | None) -> str:
    """What the node does, in camel case and without the number of dimensions: `Conv`, `MaxPool`, `Add`, `ReLU6`.
    `module`: the one it calls, when it calls one."""
    if module is not None:
        name = type(module).__name__.removeprefix("Parametrized")
    else:
        name = node.target if isinstance(node.target, str) else node.target.__name__
        name = name.partition(".")[0].strip("_")  # operators have an overload's name behind their own
        name = "".join(part[:1].upper() + part[1:] for part in _SPELT.get(name, name).split("_"))
    return re.sub(r"[123]d$", "", name)


def values(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values a node computes with: all that it reads, but the places of points."""
    return node.all_input_nodes[:1] if node.target is TAKE else node.all_input_nodes


def called(gm: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None for functions and methods."""
    return gm.get_submodule(str(node.target)) if node.op == "call_module" else None


def does(gm: fx.GraphModule, node: fx.Node, what: re.Pattern[str]) -> bool:
    """Whether the node's operation is one of `what`."""
    return node.op.startswith("call_") and what.fullmatch(operation(node, called(gm, node)).lower()) is not None
