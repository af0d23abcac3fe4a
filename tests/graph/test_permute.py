"""Orders of channels: the same function, never less that stays, and as good as all orders on small cases."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.core.pattern import BlockPattern
from shoestring.graph.capture import capture, example_input
from shoestring.graph.masks import factors, layer_at, norms
from shoestring.graph.permute import gathered, gathering, kept
from shoestring.models import zoo

FOUR = BlockPattern(4, 1)


def shuffled(blocks: list[np.ndarray], seed: int) -> np.ndarray:
    """Rows [4n, ...] of which each four are alike, in a random order."""
    rows = np.concatenate(blocks)
    return rows[np.random.default_rng(seed).permutation(len(rows))]


def pairings(rows: list[int]) -> list[list[int]]:
    """Every way to put eight rows into two blocks of four."""
    first, *rest = rows
    return [[first, *three, *(row for row in rest if row not in three)] for three in combinations(rest, 3)]


@pytest.mark.parametrize("seed", range(12))
def test_against_all_orders_of_eight(seed: int) -> None:
    """35 partitions: the best one."""
    rows = [np.random.default_rng(seed).random((8, 10)) ** 4]
    best = max(kept(rows, np.array(order), 4, 50) for order in pairings(list(range(8))))
    found = kept(rows, gathering(rows, 4, 50), 4, 50)
    assert found == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_are_alike_are_found(seed: int) -> None:
    """Sixteen kinds of rows, four of each: sorted out, nothing is lost at the share of zeros that there is."""
    kinds = [np.tile(np.random.default_rng(k).random(64) * (np.arange(64) % 16 == k), (4, 1)) for k in range(16)]
    rows = [shuffled(kinds, seed)]
    assert kept(rows, np.arange(64), 4, 90) < 0.8
    assert kept(rows, gathering(rows, 4, 90), 4, 90) > 0.99


def test_what_stays_by_hand() -> None:
    rows = [np.array([[4.0, 0], [0, 1], [4, 0], [0, 1]])]
    assert kept(rows, np.arange(4), 2, 50) == pytest.approx(8 / 10)
    assert kept(rows, np.array([0, 2, 1, 3]), 2, 50) == pytest.approx(10 / 10)
    assert kept(rows, np.arange(4), 2, 75) == pytest.approx(4 / 10)


def test_a_ragged_end() -> None:
    rows = [np.random.default_rng(0).random((10, 6))]
    order = gathering(rows, 4, 50)
    assert sorted(order) == list(range(10))


class Residual(nn.Module):
    """Ties of every kind: a sum, a depthwise layer, a gate, a flatten into a linear layer; and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.wide, self.depth, self.back = (
            nn.Conv2d(16, 32, 1),
            nn.Conv2d(32, 32, 3, 1, 1, groups=32),
            nn.Conv2d(32, 16, 1),
        )
        self.gate, self.slope = nn.Linear(32, 32), nn.PReLU(32)
        self.grouped, self.head = nn.Conv2d(16, 8, 1, groups=2), nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        y = self.slope(self.depth(self.wide(x)))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        x = x + self.back(y)
        return self.head(self.grouped(x).flatten(1))


def equal(one: fx.GraphModule, other: fx.GraphModule, shape: tuple[int, ...]) -> None:
    x = example_input(one, shape).double()
    with torch.no_grad():
        torch.testing.assert_close(one.double().eval()(x), other.double().eval()(x), rtol=0, atol=1e-10)


def share(gm: fx.GraphModule, path: str, percent: float) -> float:
    """Of the squared folded weight of a layer, what is in the largest blocks; by the pattern's own norms."""
    layer = layer_at(gm, path)
    scale = factors(layer, norms(gm).get(path)).reshape(-1, *[1] * (layer.weight.ndim - 1))
    squares = np.sort(FOUR.norms((layer.weight * scale).detach().numpy()).ravel() ** 2)
    return float(squares[int(percent / 100 * squares.size) :].sum() / squares.sum())


def test_the_function_stays_and_more_of_the_weights() -> None:
    torch.manual_seed(0)
    gm = capture(Residual(), (3, 4, 4))
    with torch.no_grad():
        for parameter in gm.parameters():
            parameter.copy_(torch.randn(parameter.shape) * torch.rand(parameter.shape) ** 3)
    paths = ["wide", "back", "gate", "head", "grouped"]
    found, told = gathered(gm, FOUR, 75, paths)
    assert {path for one in told for path in one.layers} == {"wide", "gate"}  # the grouped one reads what `back` makes
    assert not torch.equal(found.get_submodule("wide").weight, gm.get_submodule("wide").weight)
    for one in told:
        assert one.after > one.before
        assert one.after == pytest.approx(np.mean([share(found, path, 75) for path in one.layers]), abs=1e-4)
        assert one.before == pytest.approx(np.mean([share(gm, path, 75) for path in one.layers]), abs=1e-4)
    for path in ("head", "grouped", "back"):  # the network's outputs, and groups
        assert share(found, path, 75) == pytest.approx(share(gm, path, 75), abs=1e-6)
    equal(found, gm, (3, 4, 4))


@pytest.mark.parametrize("name", ["cifar_mobilenet", "cifar_efficientnet_b0", "cifar_mixnet_s"])
def test_networks_of_the_zoo(name: str) -> None:
    """Residual sums, squeeze-excite gates, and channels that are split and joined."""
    entry = zoo.entry(name)
    gm = capture(zoo.build(name), entry.input)
    paths = [path for path, module in gm.named_modules() if isinstance(module, nn.Conv2d) and module.groups == 1][1:6]
    found, told = gathered(gm, FOUR, 80, paths)
    assert all(one.after > one.before for one in told)
    equal(found, gm, entry.input)


def test_single_weights_have_no_blocks_to_gather_in() -> None:
    gm = capture(Residual(), (3, 4, 4))
    found, told = gathered(gm, BlockPattern(1, 1), 80, ["wide"])
    assert told == ()
    assert torch.equal(found.get_submodule("wide").weight, gm.get_submodule("wide").weight)
