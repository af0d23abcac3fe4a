"""Where a network can be left, against taking each node out and looking whether the output can still be reached."""

import pytest
from torch import fx, nn

from shoestring.compress.exits.places import chosen, passages, places, work
from shoestring.compress.exits.settings import Exits, parse
from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.pipeline.original import Original, resolve


@pytest.fixture(scope="module")
def swish() -> Original:
    return resolve("cifar_mobilenet")


def reached(gm: fx.GraphModule, removed: fx.Node) -> bool:
    """Whether the output still is, from the input, once a node is gone."""
    waiting, seen = [node for node in gm.graph.nodes if node.op == "placeholder"], set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node is removed or node in seen:
            continue
        seen.add(node)
        waiting.extend(node.users)
    return any(node.op == "output" for node in seen)


def test_passages_are_the_nodes_without_which_nothing_gets_through(branched: fx.GraphModule, swish: Original) -> None:
    assert swish.model is not None
    for gm in (branched, swish.model):
        inner = [node for node in gm.graph.nodes if node.op not in ("placeholder", "output")]
        assert passages(gm) == [node for node in inner if not reached(gm, node)]
    names = {node.name for node in passages(branched)}
    assert {"stem_2", "add", "mul", "body_4"} <= names
    assert not {"left_1", "right", "gate_2", "shift"} & names


def test_places_end_what_a_runtime_computes_in_one_go(branched: fx.GraphModule) -> None:
    """No convolution in front of its norm and activation, nor what is not a picture."""
    assert [place.name for place in places(branched)] == ["stem.2", "add", "mul", "body.2", "body.4", "add_1"]
    sizes = {place.node: place.size for place in places(branched)}
    assert (sizes["stem_2"], sizes["body_4"]) == (8 * 4 * 4, 16 * 4 * 4)


def test_shares_are_of_the_multiplications(swish: Original) -> None:
    """The inventory counts them by another way."""
    assert swish.model is not None
    layers = inventory(swish.model, swish.input)
    total = sum(layer.macs for layer in layers)
    assert work(swish.model) == total
    place = next(place for place in places(swish.model) if place.name == "blocks.3")
    names = [layer.name for layer in layers]
    done = sum(layer.macs for layer in layers[: names.index("blocks.3.project.0") + 1])
    assert place.share == pytest.approx(done / total)


def test_exits_are_spread_evenly_and_lie_where_little_is_handed_on(swish: Original) -> None:
    assert swish.model is not None
    for count in range(1, 5):
        found = chosen(swish.model, Exits(count))
        shares = [place.share for place in found]
        assert shares == sorted(set(shares))
        for index, share in enumerate(shares):
            assert share == pytest.approx((index + 1) / (count + 1), abs=0.08)
    first, second = chosen(swish.model, Exits(2))
    assert (first.name, second.name) == ("blocks.3", "blocks.6.project.1")  # not where a block is wide


def test_places_by_name(branched: fx.GraphModule, swish: Original) -> None:
    found = chosen(branched, parse("at=mul,stem"))
    assert [place.node for place in found] == ["stem_2", "mul"]  # in the order of the network
    assert swish.model is not None
    assert [place.name for place in chosen(swish.model, parse("at=blocks.6"))] == ["blocks.6.project.1"]
    with pytest.raises(BadInput, match=r"cannot be left at 'left'; places are stem\.2, add, mul"):
        chosen(branched, parse("at=left"))


def test_too_few_places(branched: fx.GraphModule) -> None:
    flat = capture(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 4)), (3, 8, 8))
    with pytest.raises(BadInput, match="can be left nowhere; write another method"):
        chosen(flat, Exits(1))
    for module in (branched.get_submodule("body.0"), branched.get_submodule("body.3")):
        module.weight = nn.Parameter(module.weight[:, :1, :1, :1])  # nearly all of the work is in front of them
    with pytest.raises(BadInput, match=r"can be left at stem\.2 only; write exits:1"):
        chosen(branched, Exits(4))
