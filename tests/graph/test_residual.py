"""Residual blocks: which sums can be left out, and what is left then."""

import torch
from torch import Tensor, nn

from shoestring.graph.capture import capture
from shoestring.graph.residual import leave_out, stages
from shoestring.models.point_mlp import PointMLP


class Net(nn.Module):
    """Two blocks of one shape, one of another, and sums that are none: of two inputs, of one that is read outside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.down, self.d = nn.Conv2d(4, 6, 1, 2), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.a(x)
        x = torch.add(self.b(x).relu(), x)
        y = self.c(x)
        z = y + x  # y is read below: not closed
        x = self.down(z * y)
        return x.add(self.d(x)).mean((2, 3))


def test_blocks_by_stage() -> None:
    gm = capture(Net(), (4, 4, 4))
    assert [len(stage) for stage in stages(gm)] == [2, 1]


def test_a_block_that_is_left_out_is_the_identity() -> None:
    torch.manual_seed(0)
    net = Net()
    gm = capture(net, (4, 4, 4))
    leave_out(gm, {stages(gm)[0][1]})
    assert "b" not in dict(gm.named_modules())
    x = torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        net.b.weight.zero_()
        net.b.bias.zero_()
    torch.testing.assert_close(gm(x), net(x))


def test_nothing_to_leave_out() -> None:
    gm = capture(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), (4, 4, 4))
    assert stages(gm) == []


def test_blocks_of_a_network_on_points() -> None:
    """Those before the maximum over neighbours and those behind it; the sum of geometry and features is none."""
    torch.manual_seed(0)
    net = PointMLP(3, width=8, neighbours=4, points=64).eval()
    gm = capture(net, (64, 3))
    assert [len(stage) for stage in stages(gm)] == [1, 1, 1, 1, 2, 2, 1, 1]
    leave_out(gm, {stages(gm)[1][0], stages(gm)[4][1]})
    for stage, block in ((net.stages[0].after, "0"), (net.stages[2].before, "1")):
        setattr(stage, block, nn.Identity())  # what is added to is no less than 0: its ReLU changes nothing
    xyz = torch.randn(2, 64, 3)
    torch.testing.assert_close(gm(xyz), net(xyz))
