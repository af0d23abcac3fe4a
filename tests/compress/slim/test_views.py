"""Smaller networks inside a large one, against slices of its weights made by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.compress.slim.space import Shape, Space, parse
from shoestring.compress.slim.views import Views, rings_of, sides
from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.graph.sampling import counts
from shoestring.models.cifar_resnet import CifarResNet
from shoestring.models.point_mlp import Stage

SHAPE = (3, 16, 16)


class Net(nn.Module):
    """A stem, two residual blocks with a depthwise 5x5 and 7x7, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.expand = nn.ModuleList(nn.Conv2d(16, 32, 1) for _ in range(2))
        self.depth = nn.ModuleList(nn.Conv2d(32, 32, k, padding=k // 2, groups=32) for k in (5, 7))
        self.project = nn.ModuleList(nn.Conv2d(32, 16, 1) for _ in range(2))
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        for expand, depth, project in zip(self.expand, self.depth, self.project, strict=True):
            x = x + project(depth(expand(x).relu()).relu())
        return self.classifier(x.mean((2, 3)))


@pytest.fixture
def views() -> Views:
    torch.manual_seed(0)
    net = Net()
    nn.init.uniform_(net.norm.weight, 0.5, 2.0)
    return Views(capture(net, SHAPE), parse("w=0.5,1:d=1:k=2:r=0.5"))


def by_hand(net: nn.Module, x: Tensor, width: float, drop: int, rings: int) -> Tensor:
    """The smaller network from the first channels of the large one's weights."""
    get = dict(net.named_modules())
    outer, inner = int(16 * width), int(32 * width)
    norm = get["norm"]
    x = functional.conv2d(x, get["stem"].weight[:outer], stride=2, padding=1)
    x = functional.batch_norm(
        x, norm.running_mean[:outer], norm.running_var[:outer], norm.weight[:outer], norm.bias[:outer]
    ).relu()
    for index in range(2 - drop):
        expand, depth, project = (get[f"{name}.{index}"] for name in ("expand", "depth", "project"))
        cut = min(rings, (depth.kernel_size[0] - 3) // 2)
        kernel = depth.weight[:inner, :, cut:-cut, cut:-cut] if cut else depth.weight[:inner]
        y = functional.conv2d(x, expand.weight[:inner, :outer], expand.bias[:inner]).relu()
        y = functional.conv2d(y, kernel, depth.bias[:inner], padding=kernel.shape[-1] // 2, groups=inner).relu()
        x = x + functional.conv2d(y, project.weight[:outer, :inner], project.bias[:outer])
    last = get["classifier"]
    return functional.linear(x.mean((2, 3)), last.weight[:, :outer], last.bias)


@pytest.mark.parametrize("shape", [Shape(), Shape(0.5), Shape(1, 1), Shape(1, 0, 1), Shape(0.5, 1, 2)], ids=str)
def test_the_first_channels_blocks_and_the_middle_of_kernels(views: Views, shape: Shape) -> None:
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    view = views.at(shape)
    weights = view.weights(dict(views.gm.named_parameters()))
    found = torch.func.functional_call(view.gm.eval(), weights, (x,))
    expected = by_hand(views.gm, x, shape.width, shape.depth, shape.kernel)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all(isinstance(part, tuple) for part in view.parts.values())


def test_the_large_network_computes_what_it_did_its_best_channels_first(views: Views) -> None:
    torch.manual_seed(0)
    net = Net()
    nn.init.uniform_(net.norm.weight, 0.5, 2.0)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(views.gm.eval()(x), net.eval()(x), rtol=1e-4, atol=1e-5)
    # What the hidden channels of a block are worth: all that makes and reads them.
    expand, depth, project = (views.gm.get_submodule(f"{name}.0") for name in ("expand", "depth", "project"))
    worth = sum(w.square().flatten(1).sum(1) for w in (expand.weight, depth.weight, project.weight.transpose(0, 1)))
    assert worth.diff().le(1e-6).all()


def test_channels_that_have_a_fixed_place_keep_their_order() -> None:
    """A shortcut that adds zeros on both sides: channels before it cannot change places, those inside blocks can."""
    torch.manual_seed(0)
    net = CifarResNet(1, (8, 16, 32))
    views = Views(capture(net, SHAPE), parse("w=0.5,1:r=1"), 4)
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(views.gm.eval()(x), net.eval()(x), rtol=1e-4, atol=1e-5)
    first, last = (views.gm.get_submodule(name).weight for name in ("layer2.0.conv1", "layer2.0.conv2"))
    assert set(views.fixed) == {"conv1"}
    worth = first.square().flatten(1).sum(1) + last.square().sum((0, 2, 3))
    assert worth.diff().le(1e-6).all()


def test_gradients_reach_the_part_and_nothing_else(views: Views) -> None:
    view, large = views.at(Shape(0.5)), dict(views.gm.named_parameters())
    torch.func.functional_call(view.gm.train(), view.weights(large), (torch.randn(4, *SHAPE),)).sum().backward()
    gradient = large["expand.0.weight"].grad
    assert gradient is not None
    assert gradient[:16, :8].abs().sum() > 0
    assert gradient[16:].abs().sum() == gradient[:, 8:].abs().sum() == 0


def test_what_the_network_does_not_have_leaves_the_space(views: Views) -> None:
    assert views.space == Space((1.0, 0.5), (0, 1), (0, 1, 2), (1.0, 0.5), (1.0,))
    other = Views(capture(Net(), SHAPE), parse("d=5:k=9:w=0.99,0.5"))
    assert (other.space.depth, other.space.kernel, other.space.width) == ((0, 1, 2), (0, 1, 2), (1.0, 0.5))


def test_input_sizes_that_do_not_fit() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(512, 10))
    views = Views(capture(flat, (3, 8, 8)), parse("w=0.5,1:r=0.5"))
    assert views.space.side == (1.0,)
    assert sides((3, 224, 160), 0.75) == (3, 168, 120)
    assert sides((3, 32, 32), 0.1) == (3, 8, 8)
    assert sides((5,), 0.5) == (5,)
    assert [sides((1024, 3), side) for side in (1, 0.3, 0.001)] == [(1024, 3), (304, 3), (16, 3)]
    assert sides((12, 3), 0.5) == (12, 3)


def test_nothing_that_can_be_smaller_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    with pytest.raises(BadInput, match=r"^slim: of slim:.* nothing can be made smaller"):
        Views(capture(net, (3, 2, 2)), Space())


def test_channels_that_are_joined(views: Views) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.last = nn.Conv2d(3, 16, 1), nn.Conv2d(3, 16, 1), nn.Conv2d(32, 8, 1)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.last(torch.cat([self.one(x), self.two(x)], 1).relu()).mean((2, 3)))

    torch.manual_seed(0)
    net = Joined()
    views = Views(capture(net, (3, 8, 8)), parse("w=0.5,1:r=1"))
    view = views.at(Shape(0.5))
    part = view.parts["last.weight"]
    large = dict(views.gm.named_parameters())
    kept = view.weights(large)["last.weight"]
    assert isinstance(part, Tensor)  # eight channels here, eight there: no block
    torch.testing.assert_close(kept, torch.cat([large["last.weight"][:8, :8], large["last.weight"][:8, 16:24]], 1))
    x = torch.randn(2, 3, 8, 8)
    halves = [functional.conv2d(x, large[f"{n}.weight"][:8], large[f"{n}.bias"][:8]) for n in ("one", "two")]
    joined = torch.cat(halves, 1)
    last = functional.conv2d(joined.relu(), kept, large["last.bias"][:8]).mean((2, 3))
    expected = functional.linear(last, large["head.weight"][:, :8], large["head.bias"])
    found = torch.func.functional_call(view.gm.eval(), view.weights(large), (x,))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "rings"),
    [
        (nn.Conv2d(8, 8, 7, padding=3, groups=8), 2),
        (nn.Conv2d(8, 8, 5, 2, 2, groups=8), 1),
        (nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8), 1),
        (nn.Conv2d(8, 8, 5, padding="same", groups=8), 0),
        (nn.Conv2d(8, 8, 5, groups=8), 0),
        (nn.Conv2d(8, 8, 5, padding=2), 0),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), 0),
        (nn.Linear(8, 8), 0),
    ],
)
def test_rings(layer: nn.Module, rings: int) -> None:
    assert rings_of(copy.deepcopy(layer)) == rings


def test_numbers_survive_large_weights() -> None:
    """Elements are numbered in float64: float32 would lose count beyond 2^24."""
    wide = nn.Sequential(nn.Linear(16, 2**14), nn.ReLU(), nn.Linear(2**14, 1040), nn.ReLU(), nn.Linear(1040, 4))
    views = Views(capture(wide, (16,)), parse("w=0.5,1"))
    part = views.at(Shape(0.5)).parts["2.weight"]
    assert part == (slice(0, 520), slice(0, 2**13))
    assert np.prod([2**14, 1040]) > 2**24


class Clouds(nn.Module):
    """Two stages of PointMLP: points are sampled, and what is around each is looked at."""

    def __init__(self, width: int = 16, points: int = 64, near: int = 8) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 1)
        first = Stage(width, 2 * width, points, near, 1)
        self.stages = nn.ModuleList([first, Stage(2 * width, 2 * width, points // 2, near, 1)])
        self.head = nn.Linear(4 * width, 5)

    def forward(self, xyz: Tensor) -> Tensor:
        x = self.embed(xyz.transpose(1, 2).unsqueeze(3)).relu()
        for stage in self.stages:
            xyz, x = stage(xyz, x)
        return self.head(torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


@pytest.fixture(scope="module")
def clouds() -> Views:
    torch.manual_seed(0)
    net = Clouds()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
    return Views(capture(net, (64, 3)), parse("w=0.5,1:d=1:n=0.1,0.5,1:r=0.25,0.5,1"), 4)


def test_a_space_of_points_and_neighbours(clouds: Views) -> None:
    assert clouds.space == Space((1.0, 0.5), (0, 1), (0,), (1.0, 0.5, 0.25), (1.0, 0.5))  # 0.1 would be as 0.5: four
    assert not clouds.fixed


@pytest.mark.parametrize("shape", [Shape(), Shape(0.5), Shape(side=0.5), Shape(0.5, 0, 0, 0.5, 0.5)], ids=str)
def test_the_same_as_a_network_built_for_fewer_points(clouds: Views, shape: Shape) -> None:
    points, view = int(64 * shape.side), clouds.at(shape)
    net = Clouds(int(16 * shape.width), points, int(8 * shape.near)).eval()
    for own, full in zip(net.stages, Clouds().stages, strict=True):
        own.nearness = full.nearness  # a constant of the graph; a batch norm stands behind it
    net.load_state_dict(view.gm.state_dict() | view.weights(dict(clouds.gm.named_parameters())))
    x = torch.randn(2, points, 3, generator=torch.Generator().manual_seed(1))
    weights = view.weights(dict(clouds.gm.named_parameters()))
    found = torch.func.functional_call(view.gm.eval(), weights, (x,))
    torch.testing.assert_close(found, net(x), rtol=1e-4, atol=1e-5)
    joined = {name for name, part in view.parts.items() if not isinstance(part, tuple)}
    assert joined == ({"head.weight"} if shape.width < 1 else set())  # maximum and mean: the first of each


def test_points_and_neighbours_carry_no_weights(clouds: Views) -> None:
    few, all_of_them = clouds.at(Shape(0.5, 0, 0, 0.25, 0.5)), clouds.at(Shape(0.5))
    assert few.parts is all_of_them.parts
    theirs = dict(all_of_them.gm.named_parameters())
    assert all(value is theirs[name] for name, value in few.gm.named_parameters())
    own, others = (dict(view.gm.named_buffers()) for view in (few, all_of_them))
    assert not any(value is others[name] for name, value in own.items())
    assert list(counts(few.gm).values()) == [8, 4, 4, 4]
    assert list(counts(all_of_them.gm).values()) == [32, 8, 16, 8]
    assert few is clouds.at(Shape(0.5, 0, 0, 0.25, 0.5))


def test_a_network_that_takes_so_many_points_only() -> None:
    flat = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.Flatten(), nn.Linear(512, 10))
    assert Views(capture(flat, (32, 3)), parse("w=0.5,1:r=0.5,1:n=0.5,1")).space.side == (1.0,)
