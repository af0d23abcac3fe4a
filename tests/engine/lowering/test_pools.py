"""Pools and reductions, executed by the reference, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shoestring.engine.program import Program

Draw = Callable[..., Any]
Same = Callable[..., Program]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("size", [1, 7, 13])
def test_a_global_average(draw: Draw, same: Same, seed: int, size: int) -> None:
    drawing = draw(1, 16, size, size, seed=seed)
    x = drawing.edge("x", drawing.rng.uniform(0.02, 0.06), drawing.rng.integers(256))
    same(drawing.model(drawing.edge(drawing.one("GlobalAveragePool", x), drawing.rng.uniform(0.002, 0.06), 120)))


@pytest.mark.parametrize("axes", [[2, 3], [-1], [1], [1, 3]])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
def test_a_reduction(draw: Draw, same: Same, axes: list[int], keep: int, op: str) -> None:
    drawing = draw(1, 6, 5, 7)
    y = drawing.one(op, drawing.edge("x", 0.05, 120), drawing.constant(axes, np.int64), keepdims=keep)
    same(drawing.model(drawing.edge(y, 0.05, 120)), off=0.05 + 1e-6)  # floats there, whose rounding differs at halves


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_shape": [3, 3]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "dilations": [2, 3]},
    ],
)
def test_a_maximum(draw: Draw, same: Same, settings: dict[str, Any]) -> None:
    drawing = draw(1, 4, 10, 8)
    y = drawing.one("MaxPool", drawing.edge("x", 0.05, 120), **settings)
    program = same(drawing.model(drawing.edge(y, 0.05, 120)))
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "MaxPool", "Dequantise"]


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_shape": [3, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ],
)
def test_an_average(draw: Draw, same: Same, settings: dict[str, Any]) -> None:
    """ONNX Runtime adds dequantised floats: sums on a rounding border may fall to the other side there."""
    drawing = draw(1, 4, 10, 8)
    y = drawing.one("AveragePool", drawing.edge("x", 0.05, 120), **settings)
    same(drawing.model(drawing.edge(y, 0.043, 110)), off=0.043 + 1e-6)
