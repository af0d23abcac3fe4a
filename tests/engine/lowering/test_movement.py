"""What moves elements, executed by the reference, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shoestring.engine.lowering.views import reshaped, sliced, transposed, whole
from shoestring.engine.program import Copy, Program

Draw = Callable[..., Any]
Same = Callable[..., Program]
GRID = (0.05, 120)


def copies(program: Program) -> int:
    return sum(isinstance(op, Copy) for op in program.ops)


def whole_numbers(drawing: Any, *lists: list[int]) -> list[str]:
    return [drawing.constant(values, np.int64) for values in lists]


@pytest.mark.parametrize(
    ("op", "lists", "attributes"),
    [
        ("Reshape", [[0, 2, 4, -1]], {}),
        ("Reshape", [[1, -1]], {}),
        ("Flatten", [], {"axis": 1}),
        ("Unsqueeze", [[1, -1]], {}),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        ("Slice", [[1, 2], [7, 100], [1, 3], [2, 1]], {}),
        ("Slice", [[-5], [-1], [2], [1]], {}),
        ("Gather", [[1, 3, 5]], {"axis": 1}),
        ("Gather", [[-1]], {"axis": 2}),
        ("Expand", [[2, 1, 1, 1, 1]], {}),
    ],
)
def test_one_step(draw: Draw, same: Same, op: str, lists: list[list[int]], attributes: dict[str, Any]) -> None:
    drawing = draw(1, 8, 6, 5)
    x = drawing.edge("x", *GRID)
    if op == "Expand":
        x = drawing.one("Unsqueeze", x, drawing.constant([0], np.int64))
    y = drawing.edge(drawing.one(op, x, *whole_numbers(drawing, *lists), **attributes), *GRID)
    if op == "Expand":  # the images of a batch come first
        y = drawing.one("Transpose", y, perm=[1, 0, 2, 3, 4])
    assert copies(same(drawing.model(y))) <= 1


def test_a_scalar_index_drops_its_axis(draw: Draw, same: Same) -> None:
    drawing = draw(1, 8, 6, 5)
    same(
        drawing.model(
            drawing.edge(drawing.one("Gather", drawing.edge("x", *GRID), drawing.constant(2, np.int64), axis=1), *GRID)
        )
    )


def test_a_channel_shuffle_is_one_copy(draw: Draw, same: Same) -> None:
    """As ShuffleNet writes it: the batch's axis is mixed with the channels'."""
    drawing = draw(1, 8, 6, 5)
    cut = drawing.one("Reshape", drawing.edge("x", *GRID), *whole_numbers(drawing, [4, 2, 30]))
    turned = drawing.one("Transpose", drawing.edge(cut, *GRID), perm=[1, 0, 2])
    again = drawing.one("Reshape", drawing.edge(turned, *GRID), *whole_numbers(drawing, [2, -1, 4, 6, 5]))
    parts = [drawing.one("Gather", drawing.edge(again, *GRID), drawing.constant(i, np.int64), axis=0) for i in (0, 1)]
    assert copies(same(drawing.model(*(drawing.edge(part, *GRID) for part in parts)))) == 2


def test_a_split_and_its_pieces(draw: Draw, same: Same) -> None:
    drawing = draw(1, 8, 6, 5)
    parts = drawing.node("Split", drawing.edge("x", *GRID), *whole_numbers(drawing, [3, 4, 1]), outputs=3, axis=1)
    same(drawing.model(*(drawing.edge(part, *GRID) for part in parts)))


@pytest.mark.parametrize(("mode", "nearest"), [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")])
def test_a_resize_by_whole_factors(draw: Draw, same: Same, mode: str, nearest: str) -> None:
    drawing = draw(1, 3, 4, 5)
    factors = drawing.constant([1.0, 1.0, 2.0, 3.0])
    settings = {"mode": "nearest", "coordinate_transformation_mode": mode, "nearest_mode": nearest}
    y = drawing.one("Resize", drawing.edge("x", *GRID), "", factors, **settings)
    same(drawing.model(drawing.edge(y, *GRID)))


@pytest.mark.parametrize("number", [0.0, 1.0])
def test_padding(draw: Draw, same: Same, number: float) -> None:
    drawing = draw(1, 3, 4, 5)
    pads = drawing.constant([0, 0, 1, 2, 0, 1, 0, 3], np.int64)
    y = drawing.one("Pad", drawing.edge("x", 0.0625, 120), pads, drawing.constant(number))
    same(drawing.model(drawing.edge(y, 0.0625, 120)))


def test_another_grid_behind_a_move_is_a_table(draw: Draw, same: Same) -> None:
    drawing = draw(1, 8, 6, 5)
    y = drawing.one("Transpose", drawing.edge("x", *GRID), perm=[0, 3, 1, 2])
    same(drawing.model(drawing.edge(y, 0.08, 100)))


def test_a_picture_with_its_channels_last_is_quantised_before_it_moves(draw: Draw, same: Same) -> None:
    drawing = draw(1, 9, 10, 3)
    x = drawing.edge(drawing.one("Transpose", "x", perm=[0, 3, 1, 2]), *GRID)
    same(drawing.model(drawing.edge(drawing.conv(x, 4, 3, 3, 3), 0.4, 100)))


def test_inputs_and_outputs_of_one_tensor_are_copied(draw: Draw, same: Same) -> None:
    drawing = draw(1, 4, 6)
    y = drawing.edge("x", *GRID)
    program = same(drawing.model(y, drawing.one("Identity", y), drawing.one("Identity", "x")))
    assert len(set(program.outputs)) == 3 and not set(program.outputs) & set(program.inputs)


def test_views_against_numpy() -> None:
    """Random walks of views name the elements that NumPy's own operations do."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        array, view = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6), whole((2, 3, 4, 6))
        for _ in range(6):
            step, rank = rng.integers(3), array.ndim
            if step == 0:
                order = rng.permutation(rank)
                array, view = array.transpose(order), transposed(view, order)
            elif step == 1:
                shape = rng.permutation(array.shape).tolist() if rank < 4 else [array.shape[0], -1, array.shape[-1]]
                array = array.reshape(shape)
                changed = reshaped(view, array.shape)
            else:
                axis = int(rng.integers(rank))
                start = int(rng.integers(array.shape[axis]))
                taken = range(start, array.shape[axis], 2)
                array = array.take(list(taken), axis)
                changed = sliced(view, axis, start, len(taken), 2)
            if step:
                if changed is None:
                    break
                view = changed
            assert view.shape == array.shape
            np.testing.assert_array_equal(elements(view), array)


def elements(view: Any) -> np.ndarray:
    found = np.array(view.start)
    for axis in view.axes:
        for size, stride in axis:
            found = found[..., None] + np.arange(size) * stride
    return found.reshape(view.shape)
