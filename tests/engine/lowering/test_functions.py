"""Pointwise operators against ONNX Runtime: one table each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shoestring.engine.lowering.functions import BINARY, FUNCTIONS
from shoestring.engine.program import Program

Draw = Callable[..., Any]
Same = Callable[..., Program]
POSITIVE = {"Sqrt", "Log", "Reciprocal"}
SETTINGS: dict[str, dict[str, Any]] = {
    "Elu": {"alpha": 0.7},
    "LeakyRelu": {"alpha": 0.3},
    "HardSigmoid": {"alpha": 1 / 6, "beta": 0.5},
    "Gelu": {"approximate": "tanh"},
}
NEWER = {"Swish"}  # than the opset of the normal form


@pytest.mark.parametrize("op", sorted(set(FUNCTIONS) - NEWER))
def test_a_function_is_one_table(draw: Draw, same: Same, op: str) -> None:
    drawing = draw(1, 4, 40, 40)
    zero = 0 if op in POSITIVE else 128
    x = drawing.edge("x", 0.04, zero)
    if op in POSITIVE:
        x = drawing.one("Add", x, drawing.constant(0.5))
    domain, _, name = op.rpartition(".")
    y = drawing.one(name, x, **({"domain": domain} if domain else {}), **SETTINGS.get(op, {}))
    # Its own approximations of the transcendental functions may fall to the other side of a rounding border.
    program = same(drawing.model(drawing.edge(y, 0.037, 99)), off=0.037 + 1e-6)
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "Table", "Dequantise"]


@pytest.mark.parametrize("op", sorted(BINARY))
@pytest.mark.parametrize("first", [True, False])
def test_a_number_on_either_side(draw: Draw, same: Same, op: str, first: bool) -> None:
    drawing = draw(1, 4, 6, 6)
    x, number = drawing.one("Add", drawing.edge("x", 0.02, 0), drawing.constant(0.3)), drawing.constant([1.7])
    if op == "PRelu" and first:
        return
    y = drawing.one(op, *((number, x) if first else (x, number)))
    same(drawing.model(drawing.edge(y, 0.037, 20)), off=0.037 + 1e-6)


def test_a_function_behind_a_layer_is_its_table(draw: Draw, same: Same) -> None:
    drawing = draw(1, 4, 6, 6)
    y = drawing.edge(drawing.conv(drawing.edge("x", 0.05, 120), 4, 4, 1, 1), 0.3, 100)
    swish = drawing.one("Mul", drawing.one("Sigmoid", y), y)
    program = same(drawing.model(drawing.edge(swish, 0.2, 5)), off=0.2 + 1e-6)
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "Conv", "Dequantise"]


@pytest.mark.parametrize("axis", [1, -1])
def test_a_softmax_of_floats(draw: Draw, same: Same, axis: int) -> None:
    drawing = draw(1, 6, 4, 5)
    turned = drawing.one("Transpose", drawing.edge("x", 0.05, 120), perm=[0, 3, 2, 1])
    program = same(drawing.model(drawing.one("Softmax", turned, axis=axis)), off=1e-6)
    assert sum(type(op).__name__ == "Copy" for op in program.ops) == 1  # it is computed where the codes lie
    assert np.isclose(sum(op.length for op in program.ops if type(op).__name__ == "Softmax"), 5 if axis == 1 else 6)
