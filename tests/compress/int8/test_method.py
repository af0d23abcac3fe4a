"""What is special about int8: which layers keep the full range, and layers that are called twice."""

import pytest
from torch import Tensor, nn

from shoestring.compress.int8 import CARD, Int8, apply, assign, counts, lower, parse, precision, precisions, rule
from shoestring.compress.int8.method import UNCHANGED
from shoestring.core.errors import BadInput, NoEffectWarning
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


ROWS = [Layer(name, CONV, "Conv", (4, 4, 4), (4, 4, 4), (4, 4, 1, 1)) for name in ("a", "b.0", "b.1", "c")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=w4", Int8(layers=(("a", 4),))),
        ("a=fp32:b.*=w3", Int8(layers=(("a", UNCHANGED), ("b.*", 3)))),
        ("w5:mse:b.?=w8", Int8(ranges="mse", bits=5, layers=(("b.?", 8),))),
        ("full:c=fp32", Int8(full=True, layers=(("c", UNCHANGED),))),
    ],
)
def test_settings_of_single_layers_are_written_as_they_are_read(text: str, expected: Int8) -> None:
    setting = parse(text)
    assert setting == expected
    assert str(setting).startswith("int8:")
    assert parse(str(setting).removeprefix("int8:")) == setting


def test_the_last_pattern_that_names_a_layer_counts() -> None:
    """Before what is asked of all, and before the 8 bits of the first and the last."""
    found = assign(ROWS, parse("w5:mse:b.*=w3:b.1=fp32:a=w4"))
    assert {name: setting.bits for name, setting in found.items()} == {"a": 4, "b.0": 3, "b.1": UNCHANGED, "c": 8}
    assert [str(setting) for setting in found.values()] == [
        "int8:w4:mse",
        "int8:w3:mse",
        "int8:fp32:mse",
        "int8:mse",
    ]


def test_what_stays_in_fp32_has_no_precision() -> None:
    assert {name: p.weights for name, p in precisions(ROWS, parse("b.*=fp32:c=w4")).items()} == {"a": 8, "c": 4}
    assert precisions(ROWS, parse("*=fp32")) == {}
    floats, eight = (counts(ROWS[0], Int8(bits=bits)) for bits in (UNCHANGED, 8))
    assert (floats.bytes, eight.bytes) == (16 * 4, 16 + 4 * 4)  # 8 bits have a step for each output


def test_layers_in_fp32_are_left_out_where_it_is_applied() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(3, 3))
    done = apply(model, {"0": Int8(bits=UNCHANGED), "1": parse("")})
    assert (done.model, done.precisions) == (model, {"1": INT8_SAFE16})
    with pytest.warns(NoEffectWarning, match="applied to no layer"):
        assert apply(model, {"0": Int8(bits=UNCHANGED)}).precisions == {}


@pytest.mark.parametrize("text", ["a=w9", "a=w8a8", "a=mse", "a=", "=w4", "fp32", "w4:w5", "full:full", "mse:min-max"])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(BadInput, match="write int8, int8:w4, int8:full"):
        parse(text)


def test_a_pattern_without_a_layer() -> None:
    with pytest.raises(BadInput, match=r"no layer is called 'stem'; layers are a, b\.0, b\.1, \.\.\. \(see explain\)"):
        assign(ROWS, parse("a=w4:stem=fp32"))


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
    found = assign(
        [Layer(name, CONV, "Conv", (3, 8, 8), (3, 8, 8), (3, 3, 3, 3)) for name in layers], parse("conv=fp32")
    )
    assert {setting.bits for setting in found.values()} == {UNCHANGED}  # one module, whatever its calls are called


def test_a_layer_of_another_kind() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv3d(3, 3, 1), nn.ConvTranspose2d(3, 3, 2))
    for name in "012":
        with pytest.raises(BadInput, match=f"'{name}' is not a convolution or linear layer of the model"):
            apply(model, {name: parse("")})
    assert CARD.trains is False
