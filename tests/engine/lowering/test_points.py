"""Sampling, neighbours and rows taken by them, executed by the reference, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from shoestring.core.errors import BadInput
from shoestring.deploy.geometry import define
from shoestring.engine import native
from shoestring.engine.lower import lower
from shoestring.engine.program import Program

Draw = Callable[..., Any]
Same = Callable[..., Program]
STATELESS = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])  # classes, functions
DOMAIN = "shoestring"
POINTS = 40


def with_functions(model: ModelProto) -> ModelProto:
    define(model)
    return model


def farthest(drawing: Any, xyz: str, count: int = 8) -> str:
    return str(drawing.one("FarthestPoints", xyz, domain=DOMAIN, count=count))


def nearest(drawing: Any, centres: str, xyz: str, count: int = 4, **more: Any) -> str:
    op = "PointsWithin" if more else "NearestPoints"
    return str(drawing.one(op, centres, xyz, domain=DOMAIN, count=count, **more))


def take(drawing: Any, x: str, index: str) -> str:
    return str(drawing.one("TakePoints", x, index, domain=DOMAIN))


def as_map(drawing: Any, x: str) -> str:
    """Rows [1, N, C] as [1, C, N, 1]."""
    return str(drawing.one("Unsqueeze", drawing.one("Transpose", x, perm=[0, 2, 1]), drawing.constant([3], np.int64)))


def as_rows(drawing: Any, x: str) -> str:
    """[1, C, N, 1] as rows [1, N, C]."""
    return str(drawing.one("Transpose", drawing.one("Squeeze", x, drawing.constant([3], np.int64)), perm=[0, 2, 1]))


def offsets(drawing: Any, xyz: str, centres: str, near: str, factor: float | None = 1.7) -> str:
    """Of neighbours from their centres, [1, 3, M, K]."""
    apart = drawing.one(
        "Sub", take(drawing, xyz, near), drawing.one("Unsqueeze", centres, drawing.constant([2], np.int64))
    )
    if factor is not None:
        apart = drawing.one("Mul", apart, drawing.constant(factor))
    return str(drawing.one("Transpose", apart, perm=[0, 3, 1, 2]))


def stage(drawing: Any, xyz: str, x: str, channels: tuple[int, int], points: tuple[int, int]) -> tuple[str, str]:
    """Half of a point network, for features x on a grid of 0.1: so many points are kept and see so many neighbours. The
    centres and their features [1, channels, points, 1], on that grid too."""
    (cin, cout), (count, near) = channels, points
    half = max(cout // 2, 1)
    centres = take(drawing, xyz, farthest(drawing, xyz, count))
    index = nearest(drawing, centres, xyz, near)
    apart = drawing.edge(offsets(drawing, xyz, centres, index), 0.05, 128)
    features = drawing.edge(drawing.conv(x, cout, cin, 1, 1, x_scale=0.1), 0.1, 120)
    taken = drawing.edge(take(drawing, as_rows(drawing, features), index), 0.1, 120)
    grouped = drawing.one("Transpose", taken, perm=[0, 3, 1, 2])
    geometry = drawing.edge(drawing.conv(apart, cout, 3, 1, 1, x_scale=0.05), 0.1, 130)
    y = drawing.edge(drawing.one("Relu", drawing.one("Add", geometry, grouped)), 0.1)
    inner = drawing.edge(drawing.one("Relu", drawing.conv(y, half, cout, 1, 1, x_scale=0.1)), 0.1)
    expanded = drawing.edge(drawing.conv(inner, cout, half, 1, 1, x_scale=0.1), 0.1, 100)
    y = drawing.edge(drawing.one("Relu", drawing.one("Add", y, expanded)), 0.1)
    highest = drawing.one("ReduceMax", y, drawing.constant([3], np.int64), keepdims=1)
    return centres, drawing.edge(highest, 0.1)


def network(drawing: Any) -> ModelProto:
    """Two stages and what classifies."""
    xyz, x = "x", drawing.edge(as_map(drawing, "x"), 0.05, 128)
    x = drawing.edge(drawing.one("Relu", drawing.conv(x, 8, 3, 1, 1)), 0.1)
    xyz, x = stage(drawing, xyz, x, (8, 16), (20, 6))
    xyz, x = stage(drawing, xyz, x, (16, 32), (10, 5))
    highest = drawing.one("ReduceMax", x, drawing.constant([2, 3], np.int64), keepdims=0)
    return with_functions(drawing.model(drawing.edge(highest, 0.1)))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Callable[[Any], ModelProto], int]:
    """Of one to three stages, and how many points they begin with."""
    size = st.integers(1, 40)
    channels = draw(st.lists(size, min_size=2, max_size=4))
    points = draw(st.lists(size, min_size=len(channels), max_size=len(channels)).map(lambda all: sorted(all)[::-1]))
    near = [draw(st.integers(1, many)) for many in points[:-1]]

    def build(drawing: Any) -> ModelProto:
        xyz, x = "x", drawing.edge(as_map(drawing, "x"), 0.05, 128)
        x = drawing.edge(drawing.one("Relu", drawing.conv(x, channels[0], 3, 1, 1)), 0.1)
        for index, neighbours in enumerate(near):
            xyz, x = stage(drawing, xyz, x, (channels[index], channels[index + 1]), (points[index + 1], neighbours))
        return with_functions(drawing.model(drawing.edge(as_rows(drawing, x), 0.1), xyz))

    return build, points[0]


def kinds(program: Program) -> list[str]:
    return [type(op).__name__ for op in program.ops]


def test_a_network_of_points(draw: Draw, same: Same) -> None:
    """Nothing of it is transposed: rows of channels are both the points' and the maps' order."""
    program = same(network(draw(1, POINTS, 3)))
    stage = ["Farthest", "Take", "Nearest", "Relative", "Linear", "Take", "Linear", "Linear", "Linear", "Highest"]
    assert kinds(program) == ["Quantise", "Linear", *stage, *stage, "Highest", "Dequantise"]


@pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")
def test_a_network_of_points_natively(draw: Draw, check: Callable[..., Any]) -> None:
    x = np.random.default_rng(3).uniform(-1, 1, (3, POINTS, 3)).astype(np.float32)
    check(lower(network(draw(1, POINTS, 3))), x)


@pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")
def test_networks_of_points_share(draw: Draw) -> None:
    """As points of one ladder do: one memory, and equal weights once."""
    full, again = lower(network(draw(1, POINTS, 3))), lower(network(draw(1, POINTS, 3)))
    base = native.Network(full)
    like = native.Network(again, base=base)
    x = np.random.default_rng(0).normal(size=(2, POINTS, 3)).astype(np.float32)
    np.testing.assert_array_equal(like(x)[0], base(x)[0])
    assert like.arena_bytes == 0
    assert like.weight_bytes < base.weight_bytes


@given(networks())
@STATELESS
def test_random_networks_of_points(draw: Draw, same: Same, drawn: tuple[Callable[[Any], ModelProto], int]) -> None:
    build, points = drawn
    same(build(draw(1, points, 3)))


@pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")
@given(networks())
@STATELESS
def test_random_networks_of_points_natively(
    draw: Draw, check: Callable[..., Any], drawn: tuple[Callable[[Any], ModelProto], int]
) -> None:
    build, points = drawn
    check(lower(build(draw(1, points, 3))), np.random.default_rng(0).normal(size=(2, points, 3)).astype(np.float32))


@pytest.mark.parametrize("factor", [None, 1.7, 0.0, -3.0])
@pytest.mark.parametrize("radius", [None, 0.01, 3.0])
def test_offsets_are_quantised_as_they_are_gathered(
    draw: Draw, same: Same, factor: float | None, radius: float | None
) -> None:
    drawing = draw(1, POINTS, 3)
    centres = take(drawing, "x", farthest(drawing, "x"))
    index = nearest(drawing, centres, "x", 5, **({} if radius is None else {"radius": radius}))
    program = same(with_functions(drawing.model(drawing.edge(offsets(drawing, "x", centres, index, factor), 0.05, 99))))
    assert kinds(program)[:4] == ["Farthest", "Take", "Nearest", "Relative"]


@pytest.mark.parametrize("count", [1, POINTS])
def test_floats_that_are_taken_may_be_an_output(draw: Draw, same: Same, count: int) -> None:
    drawing = draw(1, POINTS, 3)
    centres = take(drawing, "x", farthest(drawing, "x", count))
    near = nearest(drawing, centres, "x", count)
    again = take(drawing, "x", near)
    same(with_functions(drawing.model(centres, again, offsets(drawing, "x", centres, near))))


def test_one_neighbour_and_one_channel(draw: Draw, same: Same) -> None:
    drawing = draw(1, POINTS, 3)
    index = nearest(drawing, take(drawing, "x", farthest(drawing, "x", 1)), "x", 1)
    x = drawing.edge(drawing.conv(drawing.edge(as_map(drawing, "x"), 0.05, 128), 1, 3, 1, 1), 0.1, 120)
    same(with_functions(drawing.model(drawing.edge(take(drawing, as_rows(drawing, x), index), 0.1, 120))))


def test_codes_are_taken_as_they_are(draw: Draw, same: Same) -> None:
    drawing = draw(1, POINTS, 3)
    grid = drawing.constant(0.05), drawing.constant(128, np.uint8)
    codes = drawing.one("QuantizeLinear", "x", *grid)
    taken = take(drawing, codes, farthest(drawing, "x"))
    program = same(with_functions(drawing.model(drawing.one("DequantizeLinear", taken, *grid))))
    assert kinds(program) == ["Farthest", "Quantise", "Take", "Dequantise"] or "Take" in kinds(program)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("which", ["map and map", "map and centres", "map and picture"])
def test_pairs_stay_as_rows(draw: Draw, same: Same, op: str, which: str) -> None:
    """A second term in another order, or one for all neighbours, is put into the order of the first."""
    drawing = draw(1, POINTS, 3)
    centres = take(drawing, "x", farthest(drawing, "x", 6))
    apart = drawing.edge(offsets(drawing, "x", centres, nearest(drawing, centres, "x", 5)), 0.05, 128)
    a = drawing.edge(drawing.conv(apart, 4, 3, 1, 1), 0.1, 120)
    if which == "map and map":
        b = drawing.edge(drawing.conv(apart, 4, 3, 1, 1), 0.1, 90)
    elif which == "map and centres":
        b = drawing.edge(drawing.conv(drawing.edge(as_map(drawing, centres), 0.05, 128), 4, 3, 1, 1), 0.1, 90)
    else:
        b = drawing.edge(drawing.conv(apart, 4, 3, 1, 1, pads=[0, 1, 0, 1], kernel_shape=[1, 1]), 0.1, 90)
        b = drawing.one("Slice", b, *(drawing.constant([value], np.int64) for value in (1, 6, 3)))
    pairs = (a, b) if drawing.rng.integers(2) else (b, a)
    same(with_functions(drawing.model(drawing.edge(drawing.one(op, *pairs), 0.23, 100))), off=0.2301 * (op == "Sub"))


def test_a_gate_of_rows(draw: Draw, same: Same) -> None:
    drawing = draw(1, POINTS, 3)
    x = drawing.edge(drawing.conv(drawing.edge(as_map(drawing, "x"), 0.05, 128), 8, 3, 1, 1), 0.1, 120)
    pooled = drawing.edge(drawing.one("GlobalAveragePool", x), 0.1, 120)
    gate = drawing.edge(
        drawing.one("Sigmoid", drawing.edge(drawing.conv(pooled, 8, 8, 1, 1, x_scale=0.1), 0.1, 99)), 0.01
    )
    same(with_functions(drawing.model(drawing.edge(drawing.one("Mul", x, gate), 0.1, 100))), off=0.2)


def without_index(drawing: Any) -> str:
    return take(drawing, "x", drawing.constant([[1, 2]], np.int64))


def of_others(drawing: Any) -> str:
    """Indices of all points into the few that were kept."""
    few = take(drawing, "x", farthest(drawing, "x"))
    return take(drawing, few, nearest(drawing, few, "x"))


def less_others(drawing: Any) -> str:
    few = take(drawing, "x", farthest(drawing, "x"))
    near = take(drawing, "x", nearest(drawing, few, "x", 8))
    return str(drawing.one("Sub", near, drawing.one("Unsqueeze", few, drawing.constant([1], np.int64))))


def bounded(drawing: Any) -> str:
    return str(drawing.edge(drawing.one("Relu", take(drawing, "x", farthest(drawing, "x"))), 0.05, 128))


FAULTS: list[tuple[Callable[[Any], str], str]] = [
    (lambda d: farthest(d, "x", POINTS + 1), r"41 of 40 points cannot be had"),
    (lambda d: farthest(d, "x", 0), r"farthestpoints0 \(shoestring.FarthestPoints\): 0 of 40"),
    (lambda d: farthest(d, d.one("Transpose", "x", perm=[0, 2, 1])), "reads no points"),
    (lambda d: nearest(d, "x", "x", 41), "41 of 40 points"),
    (lambda d: nearest(d, "x", "x", 4, radius=-1.0), "not positive"),
    (lambda d: nearest(d, "x", "x", 4, radius=float("nan")), "is not positive and finite|multiplier"),
    (lambda d: d.one("FarthestPoints", "x", domain=DOMAIN), "malformed"),
    (lambda d: d.one("NearestPoints", "x", domain=DOMAIN, count=3), "it is malformed"),
    (without_index, "not those that an operator of points gives"),
    (lambda d: take(d, farthest(d, "x"), farthest(d, "x")), "takes no rows"),
    (of_others, "are of 40 points, it has 8 rows"),
    (less_others, "not the centres"),
    (bounded, "a bound stands between"),
    (lambda d: farthest(d, "x"), "not one of numbers"),
    (lambda d: d.edge(farthest(d, "x")), "no activation"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_what_is_refused(draw: Draw, fault: Callable[[Any], str], reason: str) -> None:
    drawing = draw(1, POINTS, 3)
    model = drawing.model(fault(drawing))
    with pytest.raises(BadInput, match=reason) as raised:
        lower(model)
    assert "\n" not in str(raised.value)
