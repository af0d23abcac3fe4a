"""Layer: sizes by hand, and which convolutions are depthwise."""

import pytest

from shoestring.core.layer import CONV, DEPTHWISE, LINEAR, OTHER, Layer, conv_kind


@pytest.mark.parametrize(
    ("weight", "groups", "kind"),
    [
        ((8, 3, 3, 3), 1, CONV),
        ((8, 1, 3, 3), 1, CONV),  # one channel in, all of it used by every output
        ((8, 1, 3, 3), 8, DEPTHWISE),
        ((16, 1, 3, 3), 8, DEPTHWISE),  # two outputs a channel
        ((8, 2, 3, 3), 4, CONV),
        ((8, 1, 5), 8, DEPTHWISE),
    ],
)
def test_kinds_of_convolutions(weight: tuple[int, ...], groups: int, kind: str) -> None:
    assert conv_kind(weight, groups) == kind


@pytest.mark.parametrize(
    ("weight", "bias", "weights", "size"),
    [
        ((8, 3, 5, 5), False, 600, 2400),
        ((8, 3, 5, 5), True, 600, 2432),
        ((4, 6), True, 24, 112),
        ((7,), False, 7, 28),
        ((), False, 0, 0),
        ((), True, 0, 0),
    ],
)
def test_weights_and_bytes(weight: tuple[int, ...], bias: bool, weights: int, size: int) -> None:
    layer = Layer("a", LINEAR if len(weight) == 2 else OTHER, "x", (1,), (1,), weight, bias=bias)
    assert (layer.weights, layer.bytes) == (weights, size)
