"""Networks whose ends another runtime executes: the pieces together compute what ONNX Runtime makes of the whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, checker

from shoestring.core.errors import BadInput
from shoestring.deploy.geometry import DOMAIN, define
from shoestring.engine import reference
from shoestring.engine.split import Parts, split

Draw = Callable[..., Any]


def run(model: ModelProto | None, values: dict[str, np.ndarray]) -> None:
    if model is not None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        values.update(
            zip(names, session.run(names, {i.name: values[i.name] for i in session.get_inputs()}), strict=True)
        )


def pieced(parts: Parts, x: np.ndarray) -> dict[str, np.ndarray]:
    for piece in (parts.head, parts.tail):
        if piece is not None:
            checker.check_model(piece, full_check=True)
    values = {"x": x}
    run(parts.head, values)
    program = parts.program
    made = reference.run(program, *(values[program.tensors[index].name] for index in program.inputs))
    values.update((program.tensors[index].name, value) for index, value in zip(program.outputs, made, strict=True))
    run(parts.tail, values)
    return values


def same(parts: Parts, model: ModelProto) -> None:
    dims = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).uniform(-6, 6, dims).astype(np.float32)
    whole: dict[str, np.ndarray] = {"x": x}
    run(model, whole)
    values = pieced(parts, x)
    for output in model.graph.output:
        np.testing.assert_allclose(values[output.name], whole[output.name], rtol=1e-5, atol=1e-5)


def layers(drawing: Any, x: str) -> str:
    y = drawing.edge(drawing.conv(drawing.edge(x, 0.05, 120), 8, 6, 3, 3), 0.4, 120)
    return str(drawing.conv(y, 8, 8, 3, 3, x_scale=0.4))


def test_an_end_has_the_functions_that_it_calls(draw: Draw) -> None:
    """Sampling in the program, rows of what the engine lacks in the tail."""
    drawing = draw(1, 30, 3)
    kept = drawing.one("FarthestPoints", "x", domain=DOMAIN, count=5)
    centres = drawing.one("TakePoints", "x", kept, domain=DOMAIN)
    offsets = drawing.edge(drawing.one("Transpose", centres, perm=[0, 2, 1]), 0.05, 120)
    y = drawing.edge(drawing.conv(offsets, 8, 3, 1), 0.4, 120)
    rows = drawing.one("Transpose", drawing.one("Einsum", y, equation="abc->abc"), perm=[0, 2, 1])
    again = drawing.one(
        "FarthestPoints", drawing.one("Slice", rows, *numbers(drawing, 0, 3, 2)), domain=DOMAIN, count=2
    )
    model = drawing.model(drawing.one("TakePoints", rows, again, domain=DOMAIN))
    define(model)
    parts = split(model)
    assert parts.head is None and parts.tail is not None
    assert [function.name for function in parts.tail.functions] == ["FarthestPoints", "TakePoints"]
    same(parts, model)


def numbers(drawing: Any, *values: int) -> list[str]:
    return [drawing.constant([value], np.int64) for value in values]


def test_a_whole_network_has_no_ends(draw: Draw) -> None:
    drawing = draw(1, 6, 9, 9)
    parts = split(drawing.model(drawing.edge(layers(drawing, "x"), 0.5, 120)))
    assert (parts.head, parts.tail, parts.left) == (None, None, 0.0)


def test_what_the_engine_lacks_at_the_end_is_a_tail(draw: Draw) -> None:
    drawing = draw(1, 6, 9, 9)
    y = drawing.edge(layers(drawing, "x"), 0.5, 120)
    top = drawing.node("TopK", drawing.one("Softmax", y, axis=1), drawing.constant([2], np.int64), axis=1, outputs=2)
    model = drawing.model(top[0], drawing.one("CumSum", y, drawing.constant(2, np.int64)), y)
    parts = split(model)
    assert parts.tail is not None and {node.op_type for node in parts.tail.graph.node} == {"TopK", "CumSum"}
    same(parts, model)


def test_a_pending_relu_goes_with_the_tail(draw: Draw) -> None:
    """The program writes floats, but no bounded ones."""
    drawing = draw(1, 6, 9, 9)
    relu = drawing.one("Relu", layers(drawing, "x"))
    model = drawing.model(drawing.one("CumSum", relu, drawing.constant(2, np.int64)))
    parts = split(model)
    assert parts.tail is not None and [node.op_type for node in parts.tail.graph.node] == ["Relu", "CumSum"]
    same(parts, model)


def test_floats_in_front_are_a_head(draw: Draw) -> None:
    """Each channel less its own mean."""
    drawing = draw(1, 6, 9, 9)
    x = drawing.one("Sub", "x", drawing.constant(np.arange(6).reshape(6, 1, 1) / 10))
    model = drawing.model(drawing.edge(layers(drawing, x), 0.5, 120))
    parts = split(model)
    assert parts.head is not None and [node.op_type for node in parts.head.graph.node] == ["Sub"]
    same(parts, model)


def test_a_large_rest_is_refused_by_its_first_node(draw: Draw) -> None:
    drawing = draw(1, 6, 9, 9)
    y = drawing.one("CumSum", drawing.edge(layers(drawing, "x"), 0.5, 120), drawing.constant(2, np.int64))
    floats = drawing.one("Conv", y, drawing.constant(np.ones((8, 8, 3, 3))))
    with pytest.raises(BadInput, match=r"cumsum.*no such operator"):
        split(drawing.model(floats))


def test_a_program_that_nobody_reads_is_none(draw: Draw) -> None:
    """A quantiser beside a float network."""
    drawing = draw(1, 6, 9, 9)
    drawing.edge("x")
    with pytest.raises(BadInput, match=r"cumsum.*no such operator"):
        split(drawing.model(drawing.one("CumSum", "x", drawing.constant(2, np.int64))))
