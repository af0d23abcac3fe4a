"""Groups of channels that depend on one another, against what a reader of the network would write down."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from shoestring.graph.capture import capture
from shoestring.graph.channels import IN, OUT, Group, ends, groups, is_depthwise, width
from shoestring.graph.dependencies import trace
from shoestring.models.point_mlp import PointMLP


class Net(nn.Module):
    """A residual sum through a depthwise layer, a grouped layer, a flatten, and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.wide, self.depth, self.back = (
            nn.Conv2d(8, 16, 1),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16),
            nn.Conv2d(16, 8, 1),
        )
        self.grouped, self.flat = nn.Conv2d(8, 12, 1, groups=2), nn.Linear(12 * 4, 6)
        self.layer, self.head = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = x + self.back(self.depth(self.wide(x)).relu())
        return self.head(self.layer(self.flat(self.grouped(x).flatten(1))))


def found(model: fx.GraphModule) -> dict[str, Group]:
    return {min(group.outputs): group for group in groups(trace(model, (3, 2, 2)))}


def test_who_depends_on_whom() -> None:
    told = found(capture(Net(), (3, 2, 2)))
    wide = told["depth"]
    (cell,) = wide.cells
    assert (cell.size, cell.together) == (16, 1)
    assert set(cell.indices) == {("wide", OUT), ("depth", OUT), ("back", IN)}
    assert all((indices[:, 0] == np.arange(16)).all() for indices in cell.indices.values())
    (tied,) = told["back"].cells  # a sum, and a grouped reader that must lose as many in each group
    assert set(tied.indices) == {("stem", OUT), ("norm", OUT), ("wide", IN), ("back", OUT), ("grouped", IN)}
    assert (tied.size, tied.together) == (4, 2)
    assert {tuple(pair) for pair in tied.indices["grouped", IN].tolist()} == {(i, i + 4) for i in range(4)}


def test_a_flatten_spreads_a_channel() -> None:
    (cell,) = found(capture(Net(), (3, 2, 2)))["grouped"].cells
    assert cell.indices["flat", IN].shape == (6, 8)  # two groups of four positions
    assert cell.indices["flat", IN][0].tolist() == [0, 1, 2, 3, 24, 25, 26, 27]


def test_what_cannot_be_followed_says_why() -> None:
    assert "layer (LayerNorm) works on all channels at once" in found(capture(Net(), (3, 2, 2)))["flat"].fault


def test_the_networks_own_outputs() -> None:
    assert ends(capture(Net(), (3, 2, 2))) == {"head"}
    double = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU())
    assert ends(capture(double, (3, 4, 4))) == {"0", "1"}


def test_depthwise_layers() -> None:
    assert is_depthwise(nn.Conv2d(4, 4, 3, groups=4))
    assert not any(map(is_depthwise, (nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(1, 1, 3), nn.Linear(4, 4))))
    assert torch.is_grad_enabled()


@given(st.integers(1, 2000), st.floats(0, 99.9), st.sampled_from((1, 2, 4, 8, 16, 32)))
def test_a_width_is_the_nearest_of_all_that_there_are(channels: int, percent: float, multiple: int) -> None:
    left = width(channels, percent, multiple)
    assert left == channels or (left % multiple == 0 and 0 < left < channels)
    target = channels * (1 - percent / 100)
    others = [size for size in range(1, channels + 1) if size == channels or size % multiple == 0]
    assert abs(left - target) == min(abs(size - target) for size in others)


def test_widths_by_hand() -> None:
    assert [width(24, 30, 4), width(96, 30, 8), width(3, 50, 4), width(10, 30, 4)] == [16, 64, 3, 8]
    assert width(16, 25, 8) == 16  # halfway to 8: the larger
    assert width(16, 99, 8) == 8


def test_channels_are_followed_through_groups_of_points() -> None:
    gm = capture(PointMLP(3, width=8, neighbours=4, points=64), (64, 3))
    told = {group.outputs: group for group in groups(trace(gm, (64, 3)))}
    assert not any(group.fault for group in told.values())
    first = next(group for outputs, group in told.items() if "stages.0.geometry.0" in outputs)
    stage = ["after.0.expand.0", "before.0.expand.0", "feature.0", "geometry.0"]
    assert sorted(first.outputs) == [f"stages.0.{name}" for name in stage]
    (cell,) = first.cells
    assert cell.size == 16 and {path for path, side in cell.indices if side == IN} == {
        "stages.0.before.0.reduce.0",
        "stages.0.after.0.reduce.0",
        "stages.1.feature.0",
    }
