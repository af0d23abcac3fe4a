"""Pointwise operators: float32 functions of the 256 values that a tensor of codes can have, so that any chain of them
is one table. Bounds of a pending result stay bounds: rounding is monotone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shoestring.engine.lowering.builder import Builder
from shoestring.engine.lowering.graph import Node, Unsupported
from shoestring.engine.lowering.values import INFINITY, Constant, Joined, Pending, Pointwise, Value

Function = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _wide(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    """A function computed in float64 and rounded once."""
    return lambda x, _: function(x.astype(np.float64)).astype(np.float32)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return np.clip(np.float32(alpha) * x + np.float32(beta), np.float32(0), np.float32(1))


def _gelu(x: np.ndarray, given: Mapping[str, Any]) -> np.ndarray:
    x = x.astype(np.float64)
    if given.get("approximate", b"none") == b"tanh":
        inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        inner = _erf(x / math.sqrt(2))
    return np.asarray(0.5 * x * (1 + inner)).astype(np.float32)


FUNCTIONS: Mapping[str, Function] = {
    "Abs": lambda x, _: np.abs(x),
    "Neg": lambda x, _: -x,
    "Ceil": lambda x, _: np.ceil(x),
    "Floor": lambda x, _: np.floor(x),
    "Round": lambda x, _: np.rint(x),
    "Sign": lambda x, _: np.sign(x),
    "Sqrt": lambda x, _: np.sqrt(x),
    "Reciprocal": lambda x, _: np.float32(1) / x,
    "Exp": _wide(np.exp),
    "Log": _wide(np.log),
    "Tanh": _wide(np.tanh),
    "Erf": _wide(_erf),
    "Sigmoid": _wide(_sigmoid),
    "Softplus": _wide(lambda x: np.logaddexp(x, 0)),
    "Softsign": lambda x, _: x / (1 + np.abs(x)),
    "Mish": _wide(lambda x: x * np.tanh(np.logaddexp(x, 0))),
    "Swish": lambda x, given: _wide(lambda x: x * _sigmoid(given.get("alpha", 1.0) * x))(x, given),
    "Gelu": _gelu,
    "com.microsoft.Gelu": _gelu,
    "com.microsoft.QuickGelu": lambda x, given: _wide(lambda x: x * _sigmoid(given.get("alpha", 1.702) * x))(x, given),
    "Elu": lambda x, given: np.where(x > 0, x, np.float32(given.get("alpha", 1.0)) * _wide(np.expm1)(x, given)),
    "Selu": lambda x, given: (
        np.float32(given.get("gamma", 1.0507009873554805))
        * np.where(x > 0, x, np.float32(given.get("alpha", 1.6732632423543772)) * _wide(np.expm1)(x, given))
    ),
    "LeakyRelu": lambda x, given: np.where(x >= 0, x, np.float32(given.get("alpha", 0.01)) * x),
    "ThresholdedRelu": lambda x, given: np.where(x > np.float32(given.get("alpha", 1.0)), x, np.float32(0)),
    "HardSigmoid": lambda x, given: _hard_sigmoid(x, given.get("alpha", 0.2), given.get("beta", 0.5)),
    "HardSwish": lambda x, _: x * _hard_sigmoid(x, 1 / 6, 0.5),
}
BINARY: Mapping[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Pow": np.power,
    "PRelu": lambda x, slope: np.where(x >= 0, x, slope * x),
}


def unary(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    function = FUNCTIONS[node.op]
    with np.errstate(all="ignore"):
        return mapped(values[0], lambda x: function(x, node.attributes))


def clip(node: Node, values: Sequence[Value | None], builder: Builder) -> Value:
    """Relu and Clip of floats; Clip of codes is the walk's."""
    low, high = (0.0, INFINITY) if node.op == "Relu" else bounds(node, values)
    return bounded(values[0], low, high)


def bounds(node: Node, values: Sequence[Value | None]) -> tuple[float, float]:
    """Of a Clip, by inputs or (before opset 11) attributes."""
    found = [float(node.attributes.get("min", -INFINITY)), float(node.attributes.get("max", INFINITY))]
    for index, value in enumerate(values[1:3]):
        if value is not None:
            found[index] = scalar(value, "a bound")
    return found[0], found[1]


def scalar(value: Value | None, what: str) -> float:
    if not isinstance(value, Constant) or value.array.size != 1:
        raise Unsupported(f"{what} is no constant number")
    return float(value.array.ravel()[0])


def bounded(value: Value | None, low: float, high: float) -> Value:
    if isinstance(value, Pending):
        below, above = (min(max(bound, low), high) for bound in (value.low, value.high))
        return replace(value, low=below, high=above)
    if isinstance(value, Joined):
        return value.each(lambda part: bounded(part, low, high))
    return mapped(value, lambda x: np.clip(x, np.float32(low), np.float32(high)))


def mapped(value: Value | None, function: Callable[[np.ndarray], np.ndarray]) -> Value:
    if isinstance(value, Constant):
        return Constant(function(value.array))
    if isinstance(value, Pointwise):
        return replace(value, values=np.asarray(function(value.values), np.float32), grid=None)
    if isinstance(value, Joined):
        return value.each(lambda part: mapped(part, function))
    raise Unsupported("it reads floats that no quantiser wrote; quantise what it reads")
