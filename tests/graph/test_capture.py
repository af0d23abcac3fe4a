"""Capture against the model itself: what is traced computes the same, what cannot be is kept whole or named by line."""

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from shoestring.core.errors import BadInput
from shoestring.geometry.operators import FARTHEST, NEAREST, TAKE
from shoestring.graph.capture import capture, captured_shape, example_input, reshaped, source_line
from shoestring.models.point_mlp import PointMLP


class Gate(nn.Module):
    """Depends on the data: cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.inner = nn.Sequential(nn.ReLU(), Gate())
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.inner(self.conv(x)).mean((2, 3)))


class ByShape(nn.Module):
    """Python control flow on shapes alone."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, "images only"
        if x.shape[2] * 2 > x.size(3) + 100:
            raise AssertionError("too tall")
        x = x * 3 if x.shape[-1] == 2 else x * 5
        return self.fc(x.flatten(1))


class RootGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.max() > 0 else x  # the culprit


class Scaled(Gate):
    def forward(self, x: Tensor, by: object = None) -> Tensor:
        return super().forward(x)


class OddArgument(nn.Module):
    """Hands a Python object to a submodule that cannot be followed: not even a node can be made of that."""

    def __init__(self):
        super().__init__()
        self.fc, self.scaled = nn.Linear(3, 3), Scaled()

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(self.fc(x), object())


class Counter(nn.Module):
    """Changes what it reads: every run gives something else."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.fc(x) * self.seen


class Several(nn.Module):
    """Returns a dict of tensors, and drops only in training."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = F.dropout(self.fc(x), 0.5, self.training)
        return {"scores": y, "best": y.argmax(-1)}


def test_submodule_that_depends_on_data_is_kept_whole_and_still_decides():
    model = Gated().eval()
    gm = capture(model, (3, 8, 8))
    whole = [node.target for node in gm.graph.nodes if node.op == "call_module"]
    assert whole == ["conv", "inner.0", "inner.1", "fc"]
    for sign in (1.0, -1.0):  # both ways of the gate
        with torch.no_grad():
            gm.get_submodule("conv").bias.fill_(5 * sign)
            model.conv.bias.fill_(5 * sign)
            x = torch.randn(3, 3, 8, 8)
            assert torch.equal(gm(x), model(x))


def test_control_flow_on_shapes_is_followed():
    model = ByShape().eval()
    gm = capture(model, (3, 2, 2))
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(gm(x), model(x))
    assert torch.equal(gm(x), model.fc((x * 3).flatten(1)))


def test_model_is_left_alone_and_the_graph_owns_its_weights():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gm = capture(model, (1, 5, 5))
    assert model.training
    assert not gm.training
    assert not any(module.training for module in gm.modules())
    with torch.no_grad():
        gm.get_parameter("0.weight").zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_functional_operations_become_nodes_with_shapes_and_lines():
    class Residual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + x.transpose(1, 2)) @ x

    gm = capture(Residual(), (6, 6))
    nodes = [node for node in gm.graph.nodes if node.op.startswith("call_")]
    assert [node.name for node in nodes] == ["transpose", "add", "matmul"]
    assert all(tuple(node.meta["tensor_meta"].shape) == (1, 6, 6) for node in nodes)
    first = Residual.forward.__code__.co_firstlineno
    assert {source_line(node) for node in nodes} == {f"test_capture.py:{first + 1}"}


def test_structured_output_and_baked_dropout():
    model = Several().eval()
    x = torch.randn(2, 5)
    got, want = capture(model, (5,))(x), model(x)
    assert torch.equal(got["scores"], want["scores"])
    assert torch.equal(got["best"], want["best"])


def test_double_precision_model_gets_a_double_input():
    model = nn.Linear(4, 4).double()
    assert example_input(model, (4,)).dtype == torch.float64
    assert capture(model, (4,))(torch.zeros(1, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (RootGate(), (3,), ["cannot trace", "test_capture.py", "x.max() > 0", "submodule"]),
        (nn.Sequential(RootGate()), (3,), ["cannot trace", "x.max() > 0"]),
        (OddArgument(), (3,), ["cannot trace", "object()"]),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), (1, 8, 8), ["does not run on 1x8x8", "--input"]),
        (ByShape(), (3, 4), ["does not run on 3x4", "images only", "test_capture.py"]),
        (Counter(), (3,), ["does not compute what the model does"]),
    ],
    ids=["root", "every layer inside", "odd argument", "wrong channels", "own check", "changing state"],
)
def test_what_cannot_be_captured_is_said_in_one_line(model: nn.Module, shape: tuple[int, ...], words: list[str]):
    with pytest.raises(BadInput) as caught:
        capture(model, shape)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_error_names_the_right_line():
    with pytest.raises(BadInput, match=rf"line {RootGate.forward.__code__.co_firstlineno + 1} "):
        capture(RootGate(), (3,))


def test_a_changed_graph_gets_its_new_shapes() -> None:
    gm = capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (3, 8, 8))
    assert captured_shape(gm) == (3, 8, 8)
    gm.set_submodule("0", nn.Conv2d(3, 6, 5))
    shapes = [tuple(node.meta["tensor_meta"].shape) for node in reshaped(gm).graph.nodes if node.op == "call_module"]
    assert shapes == [(1, 6, 4, 4), (1, 6, 4, 4)]


def test_operators_are_nodes_of_their_own_name() -> None:
    """As the exporter calls them, so that a profile of the file speaks of the layers of the graph."""
    gm = capture(PointMLP(3, width=8, neighbours=4, points=64), (64, 3))
    named = [node.name for node in gm.graph.nodes if node.target in (FARTHEST, NEAREST, TAKE)]
    assert named[:5] == ["farthest", "take", "nearest", "take_1", "take_2"]
    shapes = {node.name: tuple(node.meta["tensor_meta"].shape) for node in gm.graph.nodes if node.name in named}
    assert shapes["farthest"] == (1, 32) and shapes["nearest"] == (1, 32, 4) and shapes["take_2"] == (1, 32, 4, 16)


def test_a_network_that_knows_why_it_has_no_graph_says_so_itself() -> None:
    class Refusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            if isinstance(x, fx.Proxy):
                raise BadInput("refusing: it has no graph")
            return self.fc(x)

    with pytest.raises(BadInput, match=r"^refusing: it has no graph$"):
        capture(Refusing(), (4,))
