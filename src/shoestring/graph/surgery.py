"""Taking channels out of a network, and the check that nothing else changed."""

import copy
from collections.abc import Mapping

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, fx, nn

from shoestring.graph.capture import example_input
from shoestring.graph.channels import IN, SPLIT, Place, is_depthwise
from shoestring.graph.dependencies import LAYERS

Removal = Mapping[Place, np.ndarray]  # which channels go from where


def without(gm: fx.GraphModule, removal: Removal, pieces: Mapping[str, tuple[int, ...]]) -> fx.GraphModule:
    """A copy of `gm` without the channels of `removal`. `pieces`: the channels that each splitting node made. Nodes
    still have the shapes of before."""
    small = copy.deepcopy(gm)
    nodes = {node.name: node for node in small.graph.nodes}
    for (name, side), indices in removal.items():
        if side == SPLIT:
            _resplit(nodes[name], pieces[name], indices)
            continue
        module = small.get_submodule(name)
        learns = {key: parameter.requires_grad for key, parameter in module.named_parameters()}
        pruner = tp.function.PrunerBox[tp.ops.module2type(module)]
        (pruner.prune_in_channels if side == IN else pruner.prune_out_channels)(module, indices.tolist())
        for key, parameter in module.named_parameters():
            parameter.requires_grad_(learns[key])
    small.graph.lint()
    small.recompile()
    return small


def unchanged(
    gm: fx.GraphModule, removal: Removal, pieces: Mapping[str, tuple[int, ...]], shape: tuple[int, ...]
) -> bool:
    """Whether without the channels of `removal` the network computes what it does when no layer reads them: then only
    these went, and all of them. Compared in float64, where rounding is of the order of 1e-15."""
    with torch.no_grad():
        quiet = _unread(gm, removal).double().eval()
        expected = quiet.forward(example_input(quiet, shape))
        try:
            small = without(gm, removal, pieces).double().eval()
            found = small.forward(example_input(small, shape))  # not a call, which prints what fails
        except Exception:  # shapes that do not fit any more, in whatever way the network's code notices
            return False
    return _equal(found, expected)


def _equal(found: object, expected: object) -> bool:
    if isinstance(expected, Tensor) and isinstance(found, Tensor):
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        close = found.shape == expected.shape and torch.allclose(found, expected, 0.0, 1e-9 * scale, equal_nan=True)
        return bool(close)
    try:
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9, equal_nan=True)
    except (AssertionError, TypeError):
        return False
    return True


def _unread(gm: fx.GraphModule, removal: Removal) -> fx.GraphModule:
    """A copy of `gm` whose layers have zeros for the inputs that go; the zeros are set here, not by torch-pruning."""
    quiet = copy.deepcopy(gm)
    for (path, side), indices in removal.items():
        layer = quiet.get_submodule(path) if side == IN else None
        if not isinstance(layer, LAYERS) or is_depthwise(layer):
            continue
        groups = 1 if isinstance(layer, nn.Linear) else layer.groups
        grouped = layer.weight.view(groups, -1, *layer.weight.shape[1:])
        wide = layer.weight.shape[1]
        for index in indices.tolist():
            grouped[index // wide, :, index % wide] = 0
    return quiet


def _resplit(node: fx.Node, pieces: tuple[int, ...], indices: np.ndarray) -> None:
    """Turns a node that splits channels into one that makes what is left of each piece."""
    gone = np.histogram(indices, np.cumsum([0, *pieces]))[0]
    sizes = [int(size - lost) for size, lost in zip(pieces, gone, strict=True)]
    node.op, node.target = "call_function", torch.split
    node.args, node.kwargs = (node.all_input_nodes[0], sizes, 1), {}
