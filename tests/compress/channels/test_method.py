"""Channels out of networks. The oracle is the network itself, in float64, in which by hand the weights that read a
removed channel and those that make it are zero."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from shoestring.compress.channels import CARD, apply, assign, parse
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.deploy.export import export
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.models import zoo

SHAPE = (3, 16, 16)
NETWORKS = ["cifar_mobilenet", "cifar_mobilenet_v3_small", "resnet18", "mobilenet_v2", "cifar_mixnet_s"]
SLOW = ["efficientnet_lite0", "efficientnet_b0", "mobilenet_v3_small", "mixnet_s"]


def settle(model: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own: nothing is 0 or 1 by chance."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor)
    return model.eval()


def removed(model: nn.Module, text: str, shape: tuple[int, ...] = SHAPE) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The captured network, and the one without channels."""
    captured = capture(settle(model), shape)
    layers = [layer for layer in inventory(captured, shape) if layer.kind in CARD.kinds]
    applied = apply(captured, assign(layers, parse(text)))
    assert isinstance(applied.model, fx.GraphModule)
    return captured, applied.model


def widths(gm: nn.Module) -> dict[str, int]:
    return {path: len(m.weight) for path, m in gm.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def rows(of: Tensor, within: Tensor) -> list[int]:
    """Where the rows of one matrix are in a larger one."""
    return [int((within == row).flatten(1).all(1).nonzero()) for row in of]


def same(small: nn.Module, zeroed: nn.Module, shape: tuple[int, ...] = SHAPE) -> None:
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(small.double()(x), zeroed.double()(x), rtol=1e-9, atol=1e-9)


class Plain(nn.Module):
    """A convolution, a depthwise one, two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.dw, self.norm2 = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16)
        self.left, self.right = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1, bias=False)
        self.last = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm1(self.first(x)))
        x = torch.sigmoid(self.norm2(self.dw(x)))  # not 0 at 0: readers must have lost it
        x = F.relu(self.left(x)) + self.right(x)
        return self.last(F.adaptive_avg_pool2d(x, 4).flatten(1))


def test_the_network_without_channels_is_the_one_in_which_they_are_zero() -> None:
    captured, small = removed(Plain(), "50%:uniform:by4")
    assert widths(small) == {"first": 8, "dw": 8, "left": 4, "right": 4, "last": 5}
    zeroed = copy.deepcopy(captured)
    modules = dict(zeroed.named_modules())
    with torch.no_grad():
        # Which channels stay is read off batch norms and biases, every value of which is another.
        kept = rows(small.norm1.bias[:, None], captured.norm1.bias[:, None])
        gone = sorted(set(range(16)) - set(kept))
        for name in ("first", "dw"):
            modules[name].weight[gone] = 0
        for name in ("norm1", "norm2"):
            modules[name].weight[gone] = modules[name].bias[gone] = 0
        kept_sum = rows(small.left.bias[:, None], captured.left.bias[:, None])
        gone_sum = sorted(set(range(8)) - set(kept_sum))
        for name in ("left", "right"):
            modules[name].weight[:, gone] = 0
            modules[name].weight[gone_sum] = 0
        modules["left"].bias[gone_sum] = 0
        modules["last"].weight.view(5, 8, 16)[:, gone_sum] = 0
        for name in ("weight", "bias", "running_mean", "running_var"):  # of what stays, nothing is touched
            assert torch.equal(getattr(small.norm2, name), getattr(captured.norm2, name)[kept])
        assert torch.equal(small.left.weight, captured.left.weight[kept_sum][:, kept])
    same(small, zeroed)


def test_the_weakest_of_the_folded_weights_go() -> None:
    """A channel is as strong as all weights that make and read it, batch norm folded in."""
    model = settle(Plain())
    with torch.no_grad():
        for tensor in (model.first.weight, model.dw.weight, model.left.weight, model.right.weight):
            tensor.fill_(0.1)
        for norm in (model.norm1, model.norm2):
            norm.weight.fill_(1)
            norm.running_var.fill_(1)
        model.norm1.weight[[1, 4, 9, 15]] = 1e-3
        model.norm2.running_var[[1, 4, 9, 15]] = 1e6
    captured = capture(model, SHAPE)
    layers = [layer for layer in inventory(captured, SHAPE) if layer.kind in CARD.kinds]
    small = apply(captured, assign(layers, parse("25%:uniform"))).model
    kept = [channel for channel in range(16) if channel not in (1, 4, 9, 15)]
    assert torch.equal(small.norm1.bias, captured.norm1.bias[kept])  # type: ignore[union-attr, index]


class Joined(nn.Module):
    """Split, filtered, joined in another order, weighed by squeeze-and-excite, joined with what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.fc1, self.fc2 = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.reader, self.last = nn.Conv2d(48, 16, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        one, two = torch.split(x, [8, 16], 1)
        y = torch.cat([self.two(two), self.one(one)], 1)
        y = y * torch.sigmoid(self.fc2(F.relu(self.fc1(y.mean((2, 3), keepdim=True)))))
        return self.last(self.reader(torch.cat([F.relu(y), x], 1)).mean((2, 3)))


def test_split_joined_and_weighed() -> None:
    captured, small = removed(Joined(), "50%:uniform:by1")
    assert widths(small) == {"stem": 12, "one": 4, "two": 8, "fc1": 4, "fc2": 12, "reader": 8, "last": 5}
    zeroed = copy.deepcopy(captured)
    gone = {
        name: sorted(set(range(len(old))) - set(rows(new[:, None], old[:, None])))
        for name in ("norm", "one", "two", "fc1", "fc2", "reader")
        for new, old in [(small.get_submodule(name).bias, captured.get_submodule(name).bias)]
    }
    assert gone["fc2"] == [*gone["two"], *(16 + channel for channel in gone["one"])]
    assert gone["norm"][4:] == [8 + channel for channel in gone["two"]]
    with torch.no_grad():
        zeroed.reader.weight[:, [*gone["fc2"], *(24 + channel for channel in gone["norm"])]] = 0
        zeroed.one.weight[:, gone["norm"][:4]] = 0
        zeroed.fc1.weight[:, gone["fc2"]] = 0
        zeroed.fc2.weight[:, gone["fc1"]] = 0
        zeroed.last.weight[:, gone["reader"]] = 0
    same(small, zeroed)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.end = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 3, groups=4), nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(F.relu(self.mid(F.relu(self.stem(x))))).mean((2, 3))


def test_groups_stay_equal() -> None:
    captured, small = removed(Grouped(), "50%:uniform:by4")
    assert widths(small) == {"stem": 8, "mid": 16, "end": 5}
    assert small.mid.groups == 4
    assert small.mid.weight.shape == (16, 2, 3, 3)
    zeroed = copy.deepcopy(captured)
    with torch.no_grad():
        stem = rows(small.stem.bias[:, None], captured.stem.bias[:, None])
        assert {sum(channel // 4 == group for channel in stem) for group in range(4)} == {2}
        for channel in set(range(16)) - set(stem):
            zeroed.mid.weight[8 * (channel // 4) : 8 * (channel // 4 + 1), channel % 4] = 0
        mid = rows(small.mid.bias[:, None], captured.mid.bias[:, None])
        zeroed.end.weight[:, sorted(set(range(32)) - set(mid))] = 0
    same(small, zeroed)


@pytest.mark.parametrize("name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_zoo(name: str) -> None:
    """Each network runs and exports, has the widths asked for, and its layers their names."""
    shape = zoo.entry(name).input
    captured = capture(zoo.build(name), shape)
    layers = [layer for layer in inventory(captured, shape) if layer.kind in CARD.kinds]
    settings = assign(layers, parse("50%:uniform:by4"))
    applied = apply(captured, settings)
    assert set(applied.precisions) == set(settings)
    small = applied.model
    assert isinstance(small, fx.GraphModule)
    before, after = widths(captured), widths(small)
    assert list(before) == list(after)
    last = layers[-1].name
    for path, width in after.items():
        if path == last:
            assert width == before[path]
        elif name not in ("cifar_mixnet_s", "mixnet_s"):  # there the shares of a layer are halved, each by itself
            assert width in (before[path] // 8 * 4, -(-before[path] // 8) * 4, before[path] if before[path] < 8 else 0)
        assert width % 4 == 0 or width == before[path]
    folded = fold(small)
    for node in small.graph.nodes:
        if node.op == "call_module" and isinstance(small.get_submodule(str(node.target)), nn.Conv2d):
            assert node.meta["tensor_meta"].shape[1] == after[str(node.target)]
    graph = export(folded, shape)
    names = {node.name for node in graph.graph.node}
    assert set(before) <= names
    for parameter, old in zip(small.parameters(), captured.parameters(), strict=True):
        assert parameter.requires_grad == old.requires_grad


class Attention(nn.Module):
    """Channels of `qkv` are heads and three kinds of them: no plain dependency. The MLP behind is one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 16)
        self.fc1, self.fc2, self.last = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).reshape(x.shape[0], 16, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out((torch.softmax(q @ k.transpose(2, 3), 3) @ v).transpose(1, 2).reshape(x.shape[0], 16, 16))
        x = x + self.fc2(F.gelu(self.fc1(x)))
        return self.last(x.mean(1))


class Hardcoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 16), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.mid(self.stem(x))).reshape(1, 8))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.two.weight = self.one.weight
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(
            (self.one(self.stem(x)) + self.two(x.mean(1, keepdim=True).expand(-1, 8, -1, -1))).mean((2, 3))
        )


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.last = nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.stem(x)).mean((2, 3)))


class Residual(nn.Module):
    """The network's input on top of a layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.mid, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.mid(x + self.same(x)).mean((2, 3)))


class OverChannels(nn.Module):
    """A softmax over channels is another one when there are fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.softmax(self.stem(x), 1).mean((2, 3)))


REFUSED = [
    (Hardcoded(), "mid", ""),
    (Shared(), "stem", "one shares its weight|two shares its weight"),
    (Normed(), "stem", "norm .GroupNorm. works on all channels at once"),
    (Residual(), "same", ""),
    (OverChannels(), "stem", ""),
]


@pytest.mark.parametrize(("model", "layer", "why"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_cannot_be_followed_is_refused_with_what_to_write(model: nn.Module, layer: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"^channels: the channels of {layer} cannot be removed: .*({why})") as refused:
        removed(model, "50%:uniform:by1")
    told = str(refused.value)
    assert "\n" not in told
    patterns = told.partition("write channels:SHARE%:")[2]
    assert f"{layer}=dense" in patterns
    try:
        small = removed(model, f"50%:uniform:by1:{patterns}")[1]
    except NoEffectWarning:
        return
    assert small(torch.zeros(1, *SHAPE)).shape == (1, 5)


def test_attention_keeps_its_heads_and_the_rest_is_followed() -> None:
    with pytest.raises(BadInput, match=r"^channels: the channels of qkv cannot be removed: .*SHARE%:qkv=dense$"):
        removed(Attention(), "50%:uniform:by1")
    captured, small = removed(Attention(), "50%:uniform:by1:qkv=dense")
    assert widths(small) == {"embed": 8, "qkv": 48, "out": 8, "fc1": 16, "fc2": 8, "last": 5}
    zeroed = copy.deepcopy(captured)
    with torch.no_grad():
        through = rows(small.embed.bias[:, None], captured.embed.bias[:, None])
        assert rows(small.out.bias[:, None], captured.out.bias[:, None]) == through
        gone = sorted(set(range(16)) - set(through))
        for reader in (zeroed.qkv, zeroed.fc1, zeroed.last):
            reader.weight[:, gone] = 0
        hidden = rows(small.fc1.bias[:, None], captured.fc1.bias[:, None])
        zeroed.fc2.weight[:, sorted(set(range(32)) - set(hidden))] = 0
    same(small, zeroed)


def test_a_layer_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.mid, self.last = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.mid(F.relu(self.mid(self.stem(x)))).mean((2, 3)))

    _, small = removed(Twice(), "50%:uniform:by1")
    assert widths(small) == {"stem": 8, "mid": 8, "last": 5}


def test_a_share_for_all_is_met_and_no_width_loses_most_of_it() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.even, self.uneven, self.last = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 1), nn.Linear(32, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.uneven(F.relu(self.even(x)))).mean((2, 3)))

    model = Two().eval()
    with torch.no_grad():
        model.even.weight.fill_(0.1)
        model.uneven.weight.fill_(0.1)
        model.last.weight.fill_(0.1)
        model.uneven.weight[1:] *= 1e-3  # one channel has nearly all of the norm
        model.last.weight[:, 1:] *= 1e-3
    captured = capture(model, SHAPE)
    layers = [layer for layer in inventory(captured, SHAPE) if layer.kind in CARD.kinds]
    small = apply(captured, assign(layers, parse("30%:global:by1"))).model
    found = widths(small)
    assert found["uneven"] == 32 - 19  # 30 % of 64; the cap would be 24
    assert found["even"] == 32
    small = apply(captured, assign(layers, parse("60%:global:by1"))).model
    assert widths(small)["uneven"] == 8


def test_nothing_removed_is_said() -> None:
    captured = capture(settle(Plain()), SHAPE)
    with pytest.warns(NoEffectWarning, match="channels removed no channel"):
        applied = apply(captured, {"first": parse("10%:uniform:by8"), "dw": parse("10%:uniform:by8")})
    assert set(applied.precisions) == {"first", "dw"}
    with pytest.warns(NoEffectWarning, match="channels removed no channel"):
        apply(captured, {"first": parse("50%:uniform")})  # `dw`, without a setting, keeps its channels and so theirs
    with pytest.raises(BadInput, match=r"^channels: Plain is not captured"):
        apply(Plain(), {})


def test_the_model_itself_is_left_alone() -> None:
    captured = capture(settle(Plain()), SHAPE)
    for parameter in itertools.islice(captured.parameters(), 2):
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in captured.state_dict().items()}
    layers = [layer for layer in inventory(captured, SHAPE) if layer.kind in CARD.kinds]
    with torch.no_grad():  # whatever the caller does
        small = apply(captured, assign(layers, parse("50%:uniform"))).model
    assert all(torch.equal(value, before[name]) for name, value in captured.state_dict().items())
    grads = [p.requires_grad for p in captured.parameters()]
    assert [p.requires_grad for p in small.parameters()] == grads
    assert not all(grads)
