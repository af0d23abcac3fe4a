"""Layers of captured networks in the place of others."""

import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.compress.structured_conv.decompose import project
from shoestring.compress.structured_conv.shape import shape_of
from shoestring.compress.structured_conv.surgery import decomposed
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.graph.sums import SumPool2d

# torch says it once a process, so in whichever test comes first.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

INPUT = (8, 12, 12)


class Net(nn.Module):
    """A layer called twice, one with batch norm and stride, 1x1 and linear ones."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.halved = nn.Conv2d(8, 6, 3, 2, padding="valid", bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.same = nn.Conv2d(6, 6, 4, padding="same")
        self.one = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        x = self.one(self.same(torch.relu(self.norm(self.halved(x)))))
        return self.fc(x.mean((2, 3)))


SHAPES = {
    "twice": (None, 2),
    "halved": (5, 2),
    "same": (None, 2),
    "one": (3, None),
    "fc": (1, None),
}


@pytest.fixture
def net() -> fx.GraphModule:
    torch.manual_seed(0)
    return capture(Net().double(), INPUT)


def test_it_computes_what_projected_layers_do(net: fx.GraphModule) -> None:
    shapes = {path: shape_of(net.get_submodule(path), *how) for path, how in SHAPES.items()}
    small = decomposed(net, shapes)
    for path, how in SHAPES.items():
        net.get_submodule(path).weight.data = project(net.get_submodule(path), *how)  # type: ignore[union-attr]
    x = torch.randn(2, *INPUT, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-10)


def test_paths_stay_and_sums_stand_beside_them(net: fx.GraphModule) -> None:
    small = decomposed(net, {path: shape_of(net.get_submodule(path), *how) for path, how in SHAPES.items()})
    layers = {layer.name: layer for layer in inventory(small, INPUT)}
    assert layers["twice"].weight == layers["twice:2"].weight == (8, 8, 2, 2)
    assert layers["halved"].weight == (6, 5, 2, 2)
    assert layers["fc"].weight == (5, 1)
    sums = {name for name, layer in layers.items() if layer.fixed}
    assert sums == {"twice_pool", "twice_pool:2", "halved_total", "halved_pool", "same_pool", "one_total", "fc_total"}
    assert isinstance(small.get_submodule("twice_pool"), SumPool2d)
    assert small.get_submodule("norm") is not net.get_submodule("norm")
    assert all("tensor_meta" in node.meta for node in small.graph.nodes if node.op != "output")
    assert dict(net.named_modules()).keys() >= {"twice", "halved"}
    assert net.get_submodule("twice").weight.shape == (8, 8, 3, 3)  # type: ignore[union-attr]
