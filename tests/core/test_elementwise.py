"""Elementwise work against formulas written out one operation at a time, and against what torch's operators do."""

import math
from dataclasses import replace

import pytest

from shoestring.core.counts import Counts, dense
from shoestring.core.elementwise import elementwise, whole
from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, LINEAR, OTHER, Layer

MAP = (4, 6, 5)
CONVOLUTION = Layer("c", CONV, "Conv", (3, 6, 5), MAP, (4, 3, 1, 1), bias=True, macs=4 * 6 * 5 * 3)


class Value(float):
    """A number that counts what is done to it."""

    multiplies = adds = 0

    def __add__(self, other: float) -> "Value":
        Value.adds += 1
        return Value(float(self) + other)

    def __mul__(self, other: float) -> "Value":
        Value.multiplies += 1
        return Value(float(self) * other)

    def __truediv__(self, other: float) -> "Value":
        Value.multiplies += 1
        return Value(float(self) / other)

    def clipped(self, low: float, high: float) -> "Value":
        """One operation, as the organisers count a ReLU."""
        Value.multiplies += 1
        return Value(min(max(float(self), low), high))

    def exp(self) -> "Value":
        """A transcendental function is one operation."""
        Value.multiplies += 1
        return Value(math.exp(self))

    def erf(self) -> "Value":
        Value.multiplies += 1
        return Value(math.erf(self))


def sigmoid(x: Value) -> Value:
    raised = x.exp()
    return raised / (raised + 1)


def gelu(x: Value) -> Value:
    return (x * math.sqrt(0.5)).erf().__add__(1) * x * 0.5


FORMULAS = {
    "relu": lambda x: x.clipped(0, math.inf),
    "relu6": lambda x: x.clipped(0, 6),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "hardswish": lambda x: x * (x + 3).clipped(0, 6) * (1 / 6),
    "gelu": gelu,
    "add": lambda x: x + 1,
    "mul": lambda x: x * 2,
    "batchnorm": lambda x: x * 2 + 1,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_operations_of_a_formula(name: str) -> None:
    Value.multiplies = Value.adds = 0
    FORMULAS[name](Value(0.7))
    counts = elementwise(Layer("a", OTHER, name.title(), MAP, MAP), bits=24)
    expected = {24: 120 * Value.multiplies} if Value.multiplies else {}
    assert (counts.multiplies, counts.adds) == (expected, {24: 120 * Value.adds} if Value.adds else {})
    if name not in ("add", "mul", "batchnorm"):
        assert elementwise(replace(CONVOLUTION, activation=name), bits=24) == counts


def test_the_organisers_own_figures() -> None:
    """counting.py: ReLU 1 and 0, swish 3 and 1, sigmoid 2 and 1, global average C and C (HW - 1)."""
    for name, multiplies, adds in (("relu", 1, 0), ("swish", 3, 1), ("sigmoid", 2, 1)):
        counts = elementwise(replace(CONVOLUTION, activation=name))
        assert counts == Counts(multiplies={32: 120 * multiplies}, adds={32: 120 * adds} if adds else {})
    average = elementwise(Layer("m", OTHER, "Mean", MAP, (4,), window=30))
    assert average == Counts(multiplies={32: 4}, adds={32: 4 * 29})


def test_poolings() -> None:
    for op, multiplies, adds in (("AvgPool", 1, 8), ("MaxPool", 8, 0), ("Sum", 0, 8)):
        counts = elementwise(Layer("p", OTHER, op, (4, 9, 9), (4, 3, 3), window=9))
        assert counts.multiplies == ({32: 36 * multiplies} if multiplies else {})
        assert counts.adds == ({32: 36 * adds} if adds else {})


@pytest.mark.parametrize("op", ["Conv", "MatMul", "Chunk", "Concat"])
def test_what_computes_nothing_by_itself(op: str) -> None:
    assert elementwise(Layer("x", OTHER, op, MAP, MAP)) == Counts()


def test_a_network_has_every_layer_once() -> None:
    linear = Layer("l", LINEAR, "Linear", (4,), (2,), (2, 4), macs=8, activation="relu")
    layers = (CONVOLUTION, Layer("m", OTHER, "Mean", MAP, (4,), window=30), linear)
    narrow = dense(linear, 4, 4)
    found = whole(layers, {"l": narrow}, bits=16)
    assert list(found) == ["c", "m", "l"]
    assert found["c"] == dense(CONVOLUTION)
    assert found["l"].multiplies == {4: 8, 16: 2}
    assert found["l"].bits == narrow.bits


def test_a_module_called_again_stores_nothing_more() -> None:
    again = replace(CONVOLUTION, name="c:2")
    first, second = whole([CONVOLUTION, again], {}).values()
    assert second == first.computed() == Counts(multiplies=first.multiplies, adds=first.adds)


def test_nothing_is_guessed() -> None:
    for layer in (Layer("odd", OTHER, "FancyOp", MAP, MAP), replace(CONVOLUTION, activation="fancy")):
        with pytest.raises(BadInput, match=f"{layer.name}: no rule says what fancy"):
            elementwise(layer)
    with pytest.raises(BadInput, match="transpose"):  # a shuffle of channels is a product, by the rules
        elementwise(Layer("t", OTHER, "Transpose", (2, 4, 6, 5), (4, 2, 6, 5)))
    with pytest.raises(BadInput, match="no layer 'd'"):
        whole([CONVOLUTION], {"d": Counts()})


@pytest.mark.parametrize(("torch_name", "onnx_name"), [("Farthest", "FarthestPoints"), ("Nearest", "NearestPoints")])
def test_distances_of_points(torch_name: str, onnx_name: str) -> None:
    """Of 8 points each from 64: three products and five sums, and the comparisons of who is kept."""
    output, comparisons = ((8,), 2) if torch_name == "Farthest" else ((8, 4), 1)
    expected = Counts(multiplies={32: 8 * 64 * (3 + comparisons)}, adds={32: 8 * 64 * 5})
    for op in (torch_name, onnx_name):
        assert elementwise(Layer("p", OTHER, op, (64, 3), output, window=64)) == expected
    for op, output in (("Take", (8, 3)), ("Transpose", (3, 64)), ("Permute", (3, 64))):
        assert elementwise(Layer("t", OTHER, op, (64, 3), output)) == Counts()
