"""How many points and neighbours, against the same network built for as many."""

import pytest
import torch
from torch import Tensor, fx, nn

from shoestring.geometry.operators import farthest, nearest, take, within
from shoestring.graph.capture import capture, captured_shape
from shoestring.graph.sampling import counts, fewer

POINTS = 32


class Net(nn.Module):
    def __init__(self, sampled: int = 16, near: int = 8, ball: int = 6) -> None:
        super().__init__()
        self.sampled, self.near, self.ball = sampled, near, ball
        self.norm, self.drop, self.head = nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(6, 5)

    def forward(self, xyz: Tensor) -> Tensor:
        centres = take(xyz, farthest(xyz, self.sampled))
        first = take(xyz, nearest(centres, xyz, count=self.near)).amax(2)
        second = take(xyz, within(centres, xyz, 0.7, self.ball)).mean(2)
        return self.head(self.drop(torch.cat([self.norm(first.transpose(1, 2)), second.transpose(1, 2)], 1).amax(2)))


@pytest.fixture
def gm() -> fx.GraphModule:
    torch.manual_seed(0)
    return capture(Net(), (POINTS, 3))


def built(gm: fx.GraphModule, *numbers: int) -> nn.Module:
    net = Net(*numbers).eval()
    net.load_state_dict(gm.state_dict())
    return net


def test_what_there_is(gm: fx.GraphModule) -> None:
    assert counts(gm) == {"farthest": 16, "nearest": 8, "within": 6}
    assert counts(capture(nn.Linear(3, 2), (POINTS, 3))) == {}


@pytest.mark.parametrize(
    ("points", "near", "expected"),
    [
        (32, 1.0, (16, 8, 6)),
        (32, 0.75, (16, 6, 4)),
        (16, 1.0, (8, 8, 6)),
        (16, 0.1, (8, 4, 4)),
        (8, 1.0, (4, 8, 6)),
        (5, 1.0, (4, 5, 5)),  # no more neighbours than points
    ],
)
def test_the_same_as_built_for_as_many(gm: fx.GraphModule, points: int, near: float, expected: tuple) -> None:
    wanted = built(gm, *expected)
    small = fewer(gm, points, near)
    assert small is gm
    assert tuple(counts(small).values()) == expected
    x = torch.randn(3, points, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(small(x), wanted(x))
    assert captured_shape(small) == (points, 3)
    shapes = {node.name: tuple(node.meta["tensor_meta"].shape) for node in small.graph.nodes if node.name in counts(gm)}
    assert shapes == dict(
        zip(counts(gm), [(1, expected[0]), *((1, expected[0], n) for n in expected[1:])], strict=True)
    )


def test_what_was_few_stays() -> None:
    gm = capture(Net(3, 2, 1), (POINTS, 3))
    assert tuple(counts(fewer(gm, 8, 0.1)).values()) == (3, 2, 1)


def test_looking_at_shapes_changes_no_statistics_and_draws_nothing(gm: fx.GraphModule) -> None:
    gm.train()
    before, state = gm.norm.running_mean.clone(), torch.random.get_rng_state()
    fewer(gm, 16)
    assert torch.equal(gm.norm.running_mean, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_that_does_not_take_fewer() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(48, 2)

        def forward(self, xyz: Tensor) -> Tensor:
            return self.head(take(xyz, farthest(xyz, 16)).flatten(1))

    gm = capture(Fixed(), (POINTS, 3))
    with pytest.raises(RuntimeError):
        fewer(gm, 16)
