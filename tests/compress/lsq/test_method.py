"""What is special about LSQ and LSQ+ as methods: bits of each kind of layer, names of calls, what is refused."""

import pytest
from torch import Tensor, nn

from shoestring.compress import METHODS
from shoestring.compress.int8 import Int8
from shoestring.compress.lsq import plain, plus
from shoestring.compress.lsq.method import own, precision
from shoestring.core.errors import BadInput, NoEffectWarning
from shoestring.core.layer import CONV
from shoestring.core.precision import Precision
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory


@pytest.mark.parametrize(
    ("module", "pairs"),
    [
        (nn.Conv2d(4, 8, 3), True),
        (nn.Conv2d(4, 8, 3, groups=4), False),
        (nn.Conv1d(4, 4, 3, groups=4), False),
        (nn.Conv2d(4, 4, 3, groups=2), True),
        (nn.Conv2d(1, 8, 3), True),
        (nn.Linear(4, 8), True),
        (nn.Linear(1, 8), True),
    ],
    ids=str,
)
def test_only_eight_bits_of_dense_layers_need_room_for_pairs(module: nn.Module, pairs: bool) -> None:
    assert plus.lower(module, plus.parse("w8a6")) == (module, Precision(8, 6, safe16=pairs))
    assert precision(module, plain.parse("w4a8")) == Precision(4, 8, safe16=False)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_the_second_call_of_a_layer() -> None:
    graph = capture(Twice(), (3, 8, 8))
    layers = [layer for layer in inventory(graph, (3, 8, 8)) if layer.kind == CONV]
    settings = plus.assign(layers, plus.parse("w4a4:conv=w4a4"))
    applied = plus.apply(graph, settings)
    assert list(applied.precisions) == ["conv", "conv:2"] and list(applied.settings) == ["conv"]
    assert set(applied.precisions.values()) == {Precision(4, 4)}
    assert list(applied.quantisers) == ["x_4", "conv_4"]


@pytest.mark.parametrize("name", ["lsq", "lsq+"])
def test_a_model_that_is_not_captured(name: str) -> None:
    with pytest.raises(BadInput, match=r"Sequential is not captured; write graph\.capture\.capture"):
        METHODS[name].apply(nn.Sequential(nn.Linear(2, 3)), {"0": METHODS[name].parse("")})


def test_layers_of_other_kinds() -> None:
    graph = capture(nn.Sequential(nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 2)), (3, 8, 8))
    for name in ("0", "1", "2", ""):
        with pytest.raises(BadInput, match=f"'{name}' is not a convolution or linear layer of the model"):
            plus.apply(graph, {name: plus.parse("")})


def test_settings_of_other_methods() -> None:
    graph = capture(nn.Sequential(nn.Conv2d(3, 3, 1)), (3, 8, 8))
    with pytest.raises(BadInput, match="int8 is not a setting of lsq"):
        plus.apply(graph, {"0": Int8()})
    assert own(plus.parse("w4a4")) == plus.parse("w4a4")


def test_no_settings() -> None:
    graph = capture(nn.Sequential(nn.Conv2d(3, 3, 1)), (3, 8, 8))
    with pytest.warns(NoEffectWarning, match="no layer"):
        assert plus.apply(graph, {}).precisions == {}
