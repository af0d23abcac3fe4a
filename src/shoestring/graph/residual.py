"""Residual blocks: what is added to what it was made of, and can be left out."""

import operator

import torch
from torch import fx

_SUMS = {operator.add, operator.iadd, torch.add}


def stages(gm: fx.GraphModule) -> list[list[str]]:
    """Names of the sums `x + f(x)` that nothing reads inside, in the order of the network: those that follow one
    another with one shape are a stage."""
    found: list[list[str]] = []
    shape: object = None
    for node in gm.graph.nodes:
        if skipped(node) is None:
            continue
        own = tuple(node.meta["tensor_meta"].shape)
        if own != shape:
            found.append([])
        found[-1].append(node.name)
        shape = own
    return found


def skipped(node: fx.Node) -> fx.Node | None:
    """The `x` of a sum `x + f(x)` of one shape, whose `f` nothing else reads; None where `node` is no such sum."""
    summed = node.target in _SUMS or (node.op == "call_method" and node.target in ("add", "add_"))
    if not summed or len(node.args) < 2 or not all(isinstance(value, fx.Node) for value in node.args[:2]):
        return None
    first, second = node.args[:2]
    for x, branch in ((first, second), (second, first)):
        assert isinstance(x, fx.Node) and isinstance(branch, fx.Node), "looked at above"
        if _shape(x) == _shape(branch) and _closed(x, branch, node):
            return x
    return None


def leave_out(gm: fx.GraphModule, names: set[str]) -> None:
    """Takes the blocks of these sums out of `gm`, in place, with the modules that only they call."""
    for node in list(gm.graph.nodes):
        if node.name in names:
            x = skipped(node)
            assert x is not None, "`stages` named it"
            node.replace_all_uses_with(x)
            gm.graph.erase_node(node)
    gm.graph.eliminate_dead_code()
    gm.graph.lint()
    gm.recompile()
    gm.delete_all_unused_submodules()


def _shape(node: fx.Node) -> object:
    meta = node.meta.get("tensor_meta")
    return getattr(meta, "shape", None)


def _closed(x: fx.Node, branch: fx.Node, total: fx.Node) -> bool:
    """Whether all of `branch` is made of `x` and of nothing else, and read by `total` alone."""
    inside: set[fx.Node] = set()
    waiting = [branch]
    while waiting:
        node = waiting.pop()
        if node is x or node in inside:
            continue
        if node.op == "placeholder":
            return False
        inside.add(node)
        waiting.extend(node.all_input_nodes)
    touched = any(x in node.all_input_nodes for node in inside)
    return touched and all(user in inside or user is total for node in inside for user in node.users)
