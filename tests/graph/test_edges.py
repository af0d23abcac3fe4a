"""Which tensors are quantised: small networks of each shape, the edges worked out by hand."""

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from shoestring.graph.capture import capture
from shoestring.graph.edges import Edge, edges, insert
from shoestring.models.point_mlp import PointMLP
from shoestring.models.squeeze_excite import SqueezeExcite

SHAPE = (4, 8, 8)


def conv(groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1, groups=groups)


class Net(nn.Module):
    """`a`, `b`, `c`: convolutions, `norm` and `fc`; `forward` is what it is given."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.c, self.norm = conv(), conv(), conv(), nn.BatchNorm2d(4)
        self.relu, self.relu6, self.silu, self.drop = nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Dropout()
        self.pool, self.fc, self.se = nn.MaxPool2d(2), nn.Linear(4, 3), SqueezeExcite(4, 2, nn.ReLU(), nn.Sigmoid())
        self.maps = nn.Linear(64, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def captured(function, shape: tuple[int, ...] = SHAPE) -> fx.GraphModule:
    torch.manual_seed(0)
    return capture(Net(function), shape)


def found(function, bits: dict[str, int], shape: tuple[int, ...] = SHAPE) -> dict[str, dict[int, list[str]]]:
    """Name of each edge's node: bits to the names of those that read it."""
    gm = captured(function, shape)
    return {e.node.name: {w: [r.name for r in readers] for w, readers in e.readers.items()} for e in edges(gm, bits)}


A8, AB = {"a": 8}, {"a": 8, "b": 4}

CASES = {
    "one layer: its input; scores stay float": (lambda m, x: m.a(x), A8, {"x": {8: ["a"]}}),
    "no layer": (lambda m, x: m.a(x) + x, {}, {}),
    "a chain, batch norm and ReLU within": (
        lambda m, x: m.b(m.relu(m.norm(m.a(x)))), AB, {"x": {8: ["a"]}, "relu": {4: ["b"]}},
    ),
    "ReLU6 within": (lambda m, x: m.b(m.relu6(m.a(x))), AB, {"x": {8: ["a"]}, "relu6": {4: ["b"]}}),
    "a swish is float between two grids": (
        lambda m, x: m.b(m.silu(m.norm(m.a(x)))), AB, {"x": {8: ["a"]}, "norm": {8: ["silu"]}, "silu": {4: ["b"]}},
    ),
    "a last swish is float": (lambda m, x: m.silu(m.a(x)), A8, {"x": {8: ["a"]}}),
    "a float layer between": (
        lambda m, x: m.c(m.b(m.a(x))), {"a": 8, "c": 4}, {"x": {8: ["a"]}, "a": {8: ["b"]}, "b": {4: ["c"]}},
    ),
    "a float layer at the end": (lambda m, x: m.b(m.a(x)), A8, {"x": {8: ["a"]}}),
    "a residual": (
        lambda m, x: m.c(m.relu(m.b(y := m.relu(m.a(x))) + y)), {**AB, "c": 3},
        {"x": {8: ["a"]}, "relu": {8: ["add"], 4: ["b"]}, "b": {8: ["add"]}, "relu_1": {3: ["c"]}},
    ),
    "a residual around the input is float": (
        lambda m, x: m.b(m.a(x) + x), AB, {"x": {8: ["a"]}, "a": {8: ["add"]}, "add": {4: ["b"]}},
    ),
    "a constant has no grid": (
        lambda m, x: m.b(m.a(x) * 2 + 1), AB, {"x": {8: ["a"]}, "a": {8: ["mul"]}, "add": {4: ["b"]}},
    ),
    "8 bits and a coarser grid behind": (
        lambda m, x: m.a(x) + m.b(x), AB, {"x": {8: ["a"], 4: ["b"]}, "a": {8: ["add"]}, "b": {8: ["add"]}},
    ),
    "squeeze and excite": (
        lambda m, x: m.c(m.se(m.relu(m.a(x)))), {**A8, "se.fc1": 4, "se.fc2": 4, "c": 4},
        {"x": {8: ["a"]}, "relu": {8: ["mean", "mul"]}, "mean": {4: ["se_fc1"]}, "se_activation": {4: ["se_fc2"]},
         "se_fc2": {8: ["se_scale_activation"]}, "se_scale_activation": {8: ["mul"]}, "mul": {4: ["c"]}},
    ),
    "a concatenation": (
        lambda m, x: m.fc(torch.cat([m.a(x), m.b(x)], 1).mean((2, 3))[:, :4]), {**AB, "fc": 6},
        {"x": {8: ["a"], 4: ["b"]}, "a": {8: ["cat"]}, "b": {8: ["cat"]}, "cat": {8: ["mean"]},
         "mean": {6: ["getitem"]}},
    ),
    "what moves values keeps their grid": (
        lambda m, x: m.maps(m.drop(m.pool(m.relu(m.a(x))).flatten(1))), {**A8, "maps": 4},
        {"x": {8: ["a"]}, "relu": {4: ["pool"]}},
    ),
    "of what is moved, the widest grid is carried": (
        lambda m, x: m.b(y := m.pool(m.relu(m.a(x)))) + m.c(y), {**AB, "c": 6},
        {"x": {8: ["a"]}, "relu": {6: ["pool"]}, "pool": {4: ["b"]}, "b": {8: ["add"]}, "c": {8: ["add"]}},
    ),
    "parts of a tensor on different bits": (
        lambda m, x: m.b((y := torch.cat([m.a(x), m.a(x)], 1).chunk(2, 1))[0]) + m.c(y[1]), {**AB, "c": 8},
        {"x": {8: ["a", "a_1"]}, "a": {8: ["cat"]}, "a_1": {8: ["cat"]}, "cat": {8: ["chunk"]}, "getitem": {4: ["b"]},
         "b": {8: ["add"]}, "c": {8: ["add"]}},
    ),
    "parts of a tensor on few bits": (
        lambda m, x: m.b((y := torch.cat([m.a(x), m.a(x)], 1).split(4, 1))[0]) + y[1], AB,
        {"x": {8: ["a", "a_1"]}, "a": {8: ["cat"]}, "a_1": {8: ["cat"]}, "cat": {8: ["split"]}, "getitem": {4: ["b"]},
         "b": {8: ["add"]}},
    ),
    "padding": (
        lambda m, x: m.b(F.pad(m.a(x), (0, 1, 0, 1))), AB, {"x": {8: ["a"]}, "a": {4: ["pad"]}},
    ),
    "a shape is no tensor": (
        lambda m, x: m.maps((y := m.pool(m.relu(m.a(x)))).view(y.size(0), y.shape[1] * 16)), {**A8, "maps": 4},
        {"x": {8: ["a"]}, "relu": {4: ["pool"]}},
    ),
    "a module called twice": (
        lambda m, x: m.a(m.relu(m.a(x))), A8, {"x": {8: ["a"]}, "relu": {8: ["a_1"]}},
    ),
    "a batch norm that cannot be folded is float": (
        lambda m, x: m.b(m.norm(y := m.a(x)) + y), AB,
        {"x": {8: ["a"]}, "a": {8: ["norm", "add"]}, "norm": {8: ["add"]}, "add": {4: ["b"]}},
    ),
    "attention": (
        lambda m, x: m.c((m.a(x) @ m.b(x).transpose(2, 3)).softmax(-1) @ x), {**A8, "b": 8, "c": 8},
        {"x": {8: ["a", "b"]}, "a": {8: ["matmul"]}, "b": {8: ["transpose"]}, "matmul": {8: ["softmax"]},
         "matmul_1": {8: ["c"]}},
    ),
    "the output of the network is also read inside": (
        lambda m, x: (y := m.a(x), m.b(y))[1], AB, {"x": {8: ["a"]}, "a": {4: ["b"]}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_edges(name: str) -> None:
    function, bits, expected = CASES[name]
    assert found(function, bits) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda m, x: m.b(m.relu(m.a(x))), {"x": False, "relu": True}),
        (lambda m, x: m.b(m.silu(m.a(x))), {"x": False, "a": False, "silu": True}),
        (lambda m, x: m.b(m.silu(m.a(x)) + m.a(x)), {"x": False, "a": False, "silu": True, "a_1": False, "add": False}),
    ],
)
def test_what_an_activation_function_wrote(function, expected: dict[str, bool]) -> None:
    assert {edge.node.name: edge.activated for edge in edges(captured(function), AB)} == expected


class Times(nn.Module):
    """Leaves a trace: bits in order."""

    def __init__(self, bits: int):
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        return x * self.bits


def test_insert() -> None:
    """A coarser grid is applied to the values of the one before; who else reads the tensor is left alone."""
    gm = captured(lambda m, x: torch.maximum(m.a(x), m.b(x)) + x)
    x = torch.randn(2, *SHAPE)
    expected = torch.maximum(gm.a(x * 8), gm.b(x * 8 * 4)) + x
    seen: list[tuple[Edge, int]] = []

    def make(edge: Edge, bits: int) -> nn.Module:
        seen.append((edge, bits))
        return Times(bits)

    plan = edges(gm, AB)
    made = insert(gm, plan, make)
    assert list(made) == ["x_8", "x_4"] and seen == [(plan[0], 8), (plan[0], 4)]
    assert all(gm.get_submodule(path) is module for path, module in made.items())
    torch.testing.assert_close(gm(x), expected)
    assert all(node.meta["tensor_meta"].shape == (1, *SHAPE) for node in gm.graph.nodes if node.name.startswith("x_"))


def test_insert_does_not_replace_a_module_of_the_network() -> None:
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.x_8 = conv()

        def forward(self, x: Tensor) -> Tensor:
            return self.x_8(x)

    gm = capture(Named(), SHAPE)
    layer = gm.x_8
    insert(gm, edges(gm, {"x_8": 8}), lambda edge, bits: Times(bits))
    x = torch.randn(1, *SHAPE)
    torch.testing.assert_close(gm(x), layer(8 * x))


@pytest.mark.parametrize("name", CASES)
def test_networks_run_with_what_was_inserted(name: str) -> None:
    """Nothing is inserted on what is no tensor: identities change nothing."""
    function, bits, _ = CASES[name]
    gm, x = captured(function), torch.randn(2, *SHAPE)
    expected = gm(x)
    made = insert(gm, edges(gm, bits), lambda edge, width: nn.Identity())
    assert len(made) == sum(len(readers) for readers in found(function, bits).values())
    assert torch.equal(gm(x), expected)


def test_rows_that_are_taken_carry_codes_and_places_have_none() -> None:
    gm = capture(PointMLP(3, width=8, neighbours=4, points=64), (64, 3))
    layers = [path for path, module in gm.named_modules() if isinstance(module, nn.Conv2d)]
    made = {
        e.node.name: {k: [r.name for r in v] for k, v in e.readers.items()} for e in edges(gm, dict.fromkeys(layers, 4))
    }
    assert made["xyz"] == {4: ["transpose"]}  # what is sampled and grouped stays float
    assert made["mul"] == {4: ["permute"]}
    assert made["stages_0_feature_1"] == {8: ["squeeze"]}  # one grid until the sum
    assert made["stages_0_before_0_act"] == {8: ["amax"]} and made["amax"] == {4: ["stages_0_after_0_reduce_0"]}
    assert not any(name.startswith(("take", "nearest", "farthest", "sub", "permute")) for name in made)
