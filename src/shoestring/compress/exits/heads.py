"""The small classifiers at a network's exits, as further outputs of its graph."""

import copy
from collections import Counter, OrderedDict
from collections.abc import Sequence

import torch
from torch import fx, nn

from shoestring.compress.exits.places import Place
from shoestring.core.errors import BadInput
from shoestring.graph.capture import reshaped
from shoestring.graph.nodes import ACTIVATION, called, does

NORM, CLASSIFIER = "norm", "classifier"
_FIRST = "mix"
_WIDER = 4  # times the channels at the exit
_MOST = 0.03  # of the network's multiply-adds, for one head
_MULTIPLE = 8  # of widths: what vectors of every runtime here fit into


def head(index: int) -> str:
    """The module of the exit, counted from 0: `exit_0`."""
    return f"exit_{index}"


def first_layer(index: int) -> str:
    """The name of the layer of a head that reads the network."""
    return f"{head(index)}.{_FIRST}"


def with_exits(gm: fx.GraphModule, places: Sequence[Place], work: int) -> fx.GraphModule:
    """A copy of `gm` (captured, batch norms in place, outputs [B, classes]) that returns (outputs, exit 0, exit 1, ...)
    of one shape. A head is a 1x1 convolution to more channels, batch norm, the network's own activation, the mean over
    pixels and a linear layer. `work`: multiply-adds of the network. Its first weights are always the same. Raises
    BadInput where the outputs are no class scores."""
    gm = copy.deepcopy(gm)
    nodes = {node.name: node for node in gm.graph.nodes}
    output = next(node for node in gm.graph.nodes if node.op == "output")
    final = output.args[0]
    shape = tuple(getattr(getattr(final, "meta", {}).get("tensor_meta"), "shape", ()))
    if len(shape) != 2 or shape[1] < 2:
        raise BadInput(
            f"exits: outputs {list(shape[1:])} are no class scores, which tell no confidence; write another method"
        )
    activation, results = _activation(gm), [final]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for index, place in enumerate(places):
            read = nodes[place.node]
            channels, *picture = read.meta["tensor_meta"].shape[1:]
            wide = _width(channels, picture[0] * picture[1], work)
            gm.add_submodule(head(index), _head(channels, wide, shape[1], activation))
            with gm.graph.inserting_before(output):
                x = read
                for name in (_FIRST, NORM, "act"):
                    x = gm.graph.call_module(f"{head(index)}.{name}", (x,))
                x = gm.graph.call_method("mean", (x, (2, 3)))
                results.append(gm.graph.call_module(f"{head(index)}.{CLASSIFIER}", (x,)))
    output.args = (tuple(results),)
    gm.graph.lint()
    gm.recompile()
    device = next(gm.parameters()).device
    return reshaped(gm.to(device).eval())


def _head(channels: int, wide: int, classes: int, activation: nn.Module) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers[_FIRST] = nn.Conv2d(channels, wide, 1, bias=False)
    layers[NORM] = nn.BatchNorm2d(wide)
    layers["act"] = copy.deepcopy(activation)
    layers[CLASSIFIER] = nn.Linear(wide, classes)
    return nn.Sequential(layers)


def _width(channels: int, pixels: int, work: int) -> int:
    """As wide as is affordable, but not narrower than what is read."""
    affordable = int(_MOST * work / max(channels * pixels, 1))
    wide = max(channels, min(_WIDER * channels, affordable))
    return -(-wide // _MULTIPLE) * _MULTIPLE


def _activation(gm: fx.GraphModule) -> nn.Module:
    """Of the kind that the network has most; ReLU where it calls none as a module."""
    found = [called(gm, node) for node in gm.graph.nodes if node.op == "call_module" and does(gm, node, ACTIVATION)]
    kinds = Counter(type(module) for module in found)
    if not kinds:
        return nn.ReLU()
    most = kinds.most_common(1)[0][0]
    return copy.deepcopy(next(module for module in found if type(module) is most and module is not None))
