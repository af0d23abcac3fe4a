"""Where a network can be left: between what comes before and all that follows, where one tensor holds all there is."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from shoestring.compress.exits.settings import Exits
from shoestring.core.errors import BadInput
from shoestring.graph.nodes import ACTIVATION, called, does

_LATEST = 0.9  # of the work: what leaves behind it saves nothing
_NEAR = 0.05  # of the work: of places so close to where one is wanted, the smallest hands on least


@dataclass(frozen=True)
class Place:
    """`node`: of the graph, whose result is read there; `name`: as a user knows it; `share`: of the multiply-adds that
    are done by then, 0..1; `size`: of the result, in elements of one input."""

    node: str
    name: str
    share: float
    size: int = 0


def chosen(gm: fx.GraphModule, exits: Exits) -> list[Place]:
    """The places of `exits` in `gm` (captured, batch norms in place), the first one first. Raises BadInput where the
    network has too few, or none of a name."""
    found = places(gm)
    if exits.at:
        return sorted((_named(found, name) for name in exits.at), key=lambda place: place.share)
    found = [place for place in found if 0 < place.share < _LATEST]
    if len(found) < exits.count:
        there = f"at {', '.join(place.name for place in found)} only" if found else "nowhere"
        raise BadInput(f"exits: this network can be left {there}; {_instead(len(found))}")
    picked: list[Place] = []
    for index in range(exits.count):
        aim, last = (index + 1) / (exits.count + 1), len(found) - (exits.count - index - 1)
        first = found.index(picked[-1]) + 1 if picked else 0
        picked.append(min(found[first:last], key=partial(_off, aim)))
    return picked


def _instead(count: int) -> str:
    return f"write exits:{count}" if count else "write another method"


def _off(aim: float, place: Place) -> tuple[float, int, float]:
    off = abs(place.share - aim)
    return max(0.0, off - _NEAR), place.size, off


def _named(found: list[Place], name: str) -> Place:
    """The place of this name: its node, its module, or the last one inside the module."""
    exact = [place for place in found if name in (place.node, place.name)]
    inside = [place for place in found if place.name.startswith(f"{name}.")]
    if not (exact or inside):
        there = ", ".join(place.name for place in found[:8]) or "none"
        raise BadInput(f"exits: it cannot be left at {name!r}; places are {there}; write one of them")
    return (exact or inside)[-1]


def places(gm: fx.GraphModule) -> list[Place]:
    """All of them in the order of the network: nodes with a picture [B, C, H, W] as their result through which
    everything passes (`passages`), at the end of what a runtime computes in one go."""
    total = work(gm)
    done, share = 0, dict[fx.Node, float]()
    for node in gm.graph.nodes:
        done += _work(gm, node)
        share[node] = done / max(total, 1)
    ends = (node for node in passages(gm) if _is_picture(node) and not any(_joined(gm, user) for user in node.users))
    return [Place(node.name, _called(node), share[node], node.meta["tensor_meta"].shape.numel()) for node in ends]


def work(gm: fx.GraphModule) -> int:
    """Multiply-adds of all convolutions and linear layers of `gm`, for one input."""
    return sum(_work(gm, node) for node in gm.graph.nodes)


def passages(gm: fx.GraphModule) -> list[fx.Node]:
    """The nodes, in graph order, that lie on every way from the input to the output: its dominators. Of what is made
    so far only their result is read later; constants do not count."""
    nodes = list(gm.graph.nodes)
    order = {node: index for index, node in enumerate(nodes)}
    varying: set[fx.Node] = set()
    for node in nodes:
        if node.op == "placeholder" or varying.intersection(node.all_input_nodes):
            varying.add(node)
    needed = {nodes[-1]}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    found, reach = [], -1  # the last reader of anything made in front of a node
    for index, node in enumerate(nodes):
        if node not in varying or node not in needed or node.op == "output":
            continue
        if reach <= index and node.op != "placeholder":
            found.append(node)
        reach = max(reach, *(order[user] for user in node.users if user in needed))
    return found


def _joined(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a runtime computes `node` together with what it reads, or does not compute it at all."""
    module = called(gm, node)
    return does(gm, node, ACTIVATION) or isinstance(module, _BatchNorm | nn.Identity | _DropoutNd)


def _is_picture(node: fx.Node) -> bool:
    meta = node.meta.get("tensor_meta")
    return len(getattr(meta, "shape", ())) == 4


def _work(gm: fx.GraphModule, node: fx.Node) -> int:
    """Multiply-adds of a convolution or linear layer, for one input."""
    module = called(gm, node)
    if not isinstance(module, _ConvNd | nn.Linear) or isinstance(module, _ConvTransposeNd):
        return 0
    weight = module.weight
    assert isinstance(weight, Tensor), "layers have one"
    return int(node.meta["tensor_meta"].shape.numel() * weight[0].numel())


def _called(node: fx.Node) -> str:
    """The module it calls, or the one whose code it is of."""
    if node.op == "call_module":
        return str(node.target)
    around = [name for name in node.meta.get("nn_module_stack", {}) if name]
    return around[-1] if around else node.name
