"""What is special about int8: which layers keep the full range, and layers that are called twice."""

import pytest
from torch import Tensor, nn

from shoestring.compress.int8 import CARD, Int8, apply, assign, lower, parse, precision, precisions, rule
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, Layer
from shoestring.core.precision import INT8, INT8_SAFE16, Precision
from shoestring.deploy.calibrate import RULES
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(4, 8, 3), INT8_SAFE16),
        (nn.Conv2d(4, 4, 3, groups=4), INT8),
        (nn.Conv2d(4, 8, 3, groups=4), INT8),  # two outputs an input: still no pairs to add
        (nn.Conv2d(4, 4, 3, groups=2), INT8_SAFE16),
        (nn.Conv1d(4, 4, 3, groups=4), INT8),
        (nn.Conv2d(1, 8, 3), INT8_SAFE16),
        (nn.Linear(4, 8), INT8_SAFE16),
    ],
    ids=str,
)
def test_only_depthwise_layers_keep_the_full_range(module: nn.Module, expected: object) -> None:
    assert lower(module, parse("")) == (module, expected)
    assert lower(module, parse("full")) == (module, INT8)


def test_precision_and_rule_of_a_setting() -> None:
    assert precision(False, parse("")) == INT8_SAFE16
    assert precision(True, parse("")) == precision(False, parse("full")) == INT8
    assert rule(parse("")) is None
    assert {rule(parse(name)) for name in RULES} == set(RULES)
    assert parse("percentile:full") == Int8(full=True, ranges="percentile")


def test_fewer_bits_of_weights_but_in_the_first_and_the_last_layer() -> None:
    layers = [Layer(name, CONV, "Conv", (4, 4, 4), (4, 4, 4), (4, 4, 1, 1)) for name in "abcd"]
    found = assign(layers, parse("w4:mse"))
    assert [(name, setting.bits) for name, setting in found.items()] == [("a", 8), ("b", 4), ("c", 4), ("d", 8)]
    assert {rule(setting) for setting in found.values()} == {"mse"}
    assert precision(False, found["b"]) == Precision(4, 8, safe16=True)
    assert (str(found["b"]), str(found["a"]), str(parse("w3:full"))) == ("int8:w4:mse", "int8:mse", "int8:w3:full")
    assert {name: p.weights for name, p in precisions(layers, parse("w3")).items()} == {"a": 8, "b": 3, "c": 3, "d": 8}
    assert assign([], parse("w4")) == {}


class Twice(nn.Module):
    """One convolution that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def test_the_second_call_of_a_layer() -> None:
    graph = capture(Twice(), (3, 8, 8))
    layers = [layer.name for layer in inventory(graph, (3, 8, 8)) if layer.kind == CONV]
    assert layers == ["conv", "conv:2"]
    assert apply(graph, dict.fromkeys(layers, parse(""))).precisions == dict.fromkeys(layers, INT8_SAFE16)


def test_a_layer_of_another_kind() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv3d(3, 3, 1), nn.ConvTranspose2d(3, 3, 2))
    for name in "012":
        with pytest.raises(BadInput, match=f"'{name}' is not a convolution or linear layer of the model"):
            apply(model, {name: parse("")})
    assert CARD.trains is False
