"""Sums, products and concatenations, executed by the reference, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shoestring.engine.lowering.pairs import sum_scales
from shoestring.engine.lowering.values import Grid
from shoestring.engine.program import Add, Mul, Program

Draw = Callable[..., Any]
Same = Callable[..., Program]


def halves(drawing: Any) -> tuple[str, str]:
    """Two tensors on grids of their own: the halves of the input's channels."""
    a, b = drawing.node("Split", "x", outputs=2, axis=1, num_outputs=2)
    return drawing.edge(a, 0.047, 120), drawing.edge(b, 0.031, 90)


@pytest.mark.parametrize("seed", range(20))
def test_a_sum_on_any_grids(draw: Draw, same: Same, seed: int) -> None:
    drawing = draw(1, 8, 20, 20, seed=seed)
    a, b = drawing.node("Split", "x", outputs=2, axis=1, num_outputs=2)
    grids = [(drawing.rng.uniform(0.01, 0.08), drawing.rng.integers(256)) for _ in range(3)]
    total = drawing.one("Add", drawing.edge(a, *grids[0]), drawing.edge(b, *grids[1]))
    program = same(drawing.model(drawing.edge(total, *grids[2])))
    assert "Add" in [type(op).__name__ for op in program.ops]


@pytest.mark.parametrize("seed", range(5))
def test_a_difference(draw: Draw, same: Same, seed: int) -> None:
    """A sum whose second scale is negative; ONNX Runtime subtracts floats, so that ties may differ."""
    drawing = draw(1, 8, 20, 20, seed=seed)
    grid = drawing.rng.uniform(0.02, 0.1), drawing.rng.integers(60, 200)
    program = same(drawing.model(drawing.edge(drawing.one("Sub", *halves(drawing)), *grid)), off=grid[0] + 1e-6)
    scales = program.pool.read(next(op for op in program.ops if isinstance(op, Add)).sum.scales, np.float32)
    assert scales[0] > 0 > scales[1]


def test_the_fixed_part_of_a_sum_by_hand() -> None:
    scales = sum_scales(Grid(np.float32(0.5), 2), Grid(np.float32(0.25), 4), Grid(np.float32(1.0), 7))
    assert scales.tolist() == [0.5, 0.25, 7 - (1 + 1)]


def test_a_sum_that_broadcasts(draw: Draw, same: Same) -> None:
    drawing = draw(1, 4, 6, 6)
    x = drawing.edge("x", 0.05, 120)
    rows = drawing.edge(drawing.one("ReduceMean", x, drawing.constant([2, 3], np.int64), keepdims=1), 0.02, 128)
    same(drawing.model(drawing.edge(drawing.one("Add", x, rows), 0.06, 120)), off=0.06 + 1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_a_product_of_equal_shapes(draw: Draw, same: Same, seed: int) -> None:
    drawing = draw(1, 8, 20, 20, seed=seed)
    grid = drawing.rng.uniform(0.02, 0.1), drawing.rng.integers(256)
    program = same(drawing.model(drawing.edge(drawing.one("Mul", *halves(drawing)), *grid)))
    assert "Mul" in [type(op).__name__ for op in program.ops]


@pytest.mark.parametrize("gate_first", [True, False])
def test_a_gate(draw: Draw, same: Same, gate_first: bool) -> None:
    drawing = draw(1, 8, 6, 6)
    x = drawing.edge("x", 0.05, 120)
    pooled = drawing.edge(drawing.one("GlobalAveragePool", x), 0.01, 128)
    gate = drawing.edge(drawing.one("Sigmoid", pooled), 0.0039, 0)
    y = drawing.one("Mul", *((gate, x) if gate_first else (x, gate)))
    program = same(drawing.model(drawing.edge(y, 0.05, 120)))
    (mul,) = (op for op in program.ops if isinstance(op, Mul))
    assert program.tensors[mul.other].shape == (8, 1, 1)
    assert "Table" not in [type(op).__name__ for op in program.ops]  # the sigmoid is part of the pool


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_a_concatenation_of_grids(draw: Draw, same: Same, axis: int) -> None:
    drawing = draw(1, 8, 6, 6)
    joined = drawing.one("Concat", *halves(drawing), axis=axis)
    same(drawing.model(drawing.edge(joined, 0.05, 120)))


def test_a_concatenation_of_layers_without_a_grid_of_their_own(draw: Draw, same: Same) -> None:
    drawing = draw(1, 8, 6, 6)
    x = drawing.edge("x", 0.05, 120)
    joined = drawing.one("Concat", drawing.conv(x, 3, 8, 1, 1), drawing.conv(x, 5, 8, 1, 1), axis=1)
    same(drawing.model(drawing.edge(drawing.one("Relu", joined), 0.2, 0)), off=0.2 + 1e-6)  # there in floats


def test_scalars_and_chains_become_one_table(draw: Draw, same: Same) -> None:
    """h-swish spelt out, between a dequantiser and a quantiser."""
    drawing = draw(1, 8, 6, 6)
    x = drawing.edge("x", 0.05, 120)
    shifted = drawing.one("Clip", drawing.one("Add", x, drawing.constant(3.0)), *map(drawing.constant, (0.0, 6.0)))
    y = drawing.one("Div", drawing.one("Mul", x, shifted), drawing.constant(6.0))
    program = same(drawing.model(drawing.edge(y, 0.04, 11)), off=0.04 + 1e-6)
    assert [type(op).__name__ for op in program.ops] == ["Quantise", "Table", "Dequantise"]
